"""Which of several evaluated models is better, on the same images."""
