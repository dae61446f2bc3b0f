"""Search spaces, architectures and fully concrete network specifications. Imports no torch."""
