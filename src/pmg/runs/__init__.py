"""Run folders, locks, exit codes, process state, and provenance."""
