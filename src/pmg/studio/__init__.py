"""The web app and surveys."""
