"""The places for blocks in the networks of a space, and which of what they offer differs."""
