"""What can be told of a network's worth before any training: the NASWOT score, as an evaluator and as a first filter."""
