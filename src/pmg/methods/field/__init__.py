"""The benchmark of methods: its definition, the check of a submission, ranks, and the page of results."""
