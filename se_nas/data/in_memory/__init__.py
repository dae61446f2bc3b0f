"""Data sets that fit the memory, as uint8 tensors: where they come from, how they are split, how batches are cut."""
