"""Finding the architecture; the test images are out of its reach."""
