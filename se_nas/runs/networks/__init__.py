"""Networks that a user names: by a file of their architecture, or by their weights."""
