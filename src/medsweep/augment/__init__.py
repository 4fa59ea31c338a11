"""Verb 2: draw augmented views of the training split, and render them where they fit."""
