"""Floor 2: one readable recipe per file."""
