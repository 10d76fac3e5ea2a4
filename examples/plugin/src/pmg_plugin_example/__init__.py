"""A plug-in for pmg: one class of each interface. Nothing is imported here: pmg imports the modules that it needs."""
