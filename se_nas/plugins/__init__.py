"""What a user's own module adds: the registries that it adds to, and how it is imported, recorded and found again."""
