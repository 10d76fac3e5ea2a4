"""Interaction histories as text, captions, and preference keywords."""
