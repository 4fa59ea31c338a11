"""How TensorFlow, which networks are built and applied with, begins."""
