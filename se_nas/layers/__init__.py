"""Floor 2: a NetworkSpec as a plain torch module."""
