"""VERB 3: augmented views become trials, and the best trials become a model."""
