"""Floor 6: what a run shows of itself."""
