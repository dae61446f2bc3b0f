"""Data sets as uint8 tensors: where they come from, how they are split, and how batches are cut from them."""
