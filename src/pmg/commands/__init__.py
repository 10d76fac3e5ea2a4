"""Entry points: one module for each console script; heavy imports happen inside functions."""
