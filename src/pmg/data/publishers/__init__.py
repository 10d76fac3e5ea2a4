"""Readers of data sets in the files that their publishers distribute."""
