"""The emoji data set: artwork, finishes, simulated users, and held-out cells."""
