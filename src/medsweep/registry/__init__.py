"""Evaluated models on their way to use."""
