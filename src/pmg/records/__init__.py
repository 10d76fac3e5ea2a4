"""Generated images and their records on disk."""
