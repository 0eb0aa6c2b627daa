"""Floor 5: a study = data + models + methods, run as resumable stages."""
