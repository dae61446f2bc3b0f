"""A NetworkSpec as a plain torch module."""
