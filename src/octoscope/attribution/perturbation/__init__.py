"""Maps from what the model says to changed images."""
