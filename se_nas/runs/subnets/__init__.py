"""Networks that leave a supernet with its weights."""
