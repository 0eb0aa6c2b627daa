"""Floor 1: networks by name, the Classifier, and where an architecture keeps its features."""
