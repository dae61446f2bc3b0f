"""A supernet that starts from the weights of a trained network."""
