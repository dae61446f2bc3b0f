"""The machine: its device and memory allocator, what it is, and the energy that it takes."""
