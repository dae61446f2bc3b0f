"""Floor 3: one set of weights for every network of a space."""
