"""Web app: builds a history, generates images for it, and compares candidates by alpha."""
