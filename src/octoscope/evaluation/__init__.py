"""Floor 2: predictions to numbers with intervals."""
