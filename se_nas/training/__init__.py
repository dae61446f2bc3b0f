"""One loop for the training of supernets and of single networks."""
