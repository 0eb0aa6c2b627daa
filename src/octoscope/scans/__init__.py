"""Floor 0: files into scans and tables; splits, audit, retina geometry, phantoms. No torch."""
