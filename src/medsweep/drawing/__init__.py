"""How figures look and how they reach the disk: one style, and the same bytes for the same content."""
