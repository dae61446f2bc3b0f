"""Floor 1: search spaces, architectures and fully concrete network specifications. Imports no torch."""
