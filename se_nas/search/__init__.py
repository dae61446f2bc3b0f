"""Floor 5: finding the architecture; the test images are out of its reach."""
