"""Zero-cost scores: what a network that is not trained yet says of how well it will do."""
