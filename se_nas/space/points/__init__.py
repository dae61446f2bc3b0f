"""Which architecture of a space a network is that comes from elsewhere."""
