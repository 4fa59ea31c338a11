"""Nouns: what the stages hand to each other. Each checks itself when it is made and when it is loaded."""
