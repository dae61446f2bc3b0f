"""Records of a run's files that more than one floor reads."""
