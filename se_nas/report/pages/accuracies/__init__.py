"""What is known of a network's accuracy with each of the weights that it has."""
