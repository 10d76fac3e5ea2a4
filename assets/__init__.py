"""The embedded models and data of pmg, as files."""
