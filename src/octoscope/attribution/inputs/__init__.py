"""Maps from gradients with respect to the pixels."""
