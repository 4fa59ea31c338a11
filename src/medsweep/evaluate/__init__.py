"""VERB 4: what the untouched test split says about the trained model."""
