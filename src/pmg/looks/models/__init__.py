"""Models of looks."""
