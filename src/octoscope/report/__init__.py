"""Floor 4: figures and the self-contained HTML report."""
