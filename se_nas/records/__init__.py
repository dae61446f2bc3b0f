"""What lies on disk and more than one floor reads: atomic files, locks, YAML input, and records with one model each."""
