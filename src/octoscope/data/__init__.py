"""Floor 1: from a ScanTable to batches."""
