"""Floor 3: maps to numbers."""
