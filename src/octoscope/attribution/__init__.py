"""Floor 2: one capture of a pass, and pure functions that turn captures into maps."""
