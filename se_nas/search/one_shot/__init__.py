"""One-shot training of a supernet, and what its subnets inherit."""
