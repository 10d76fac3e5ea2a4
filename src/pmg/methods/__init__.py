"""Methods to compare PMG with: one file each, after published systems; and the benchmark that compares them."""
