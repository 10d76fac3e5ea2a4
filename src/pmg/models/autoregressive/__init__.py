"""Generators that predict the tokens of an image one after another."""
