"""Language models that read pictures in their places in a text; one file a family."""
