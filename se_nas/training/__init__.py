"""Floor 4: one loop for the training of supernets and of single networks."""
