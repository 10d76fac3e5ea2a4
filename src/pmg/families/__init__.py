"""Published generators and language models that see, a file a family."""
