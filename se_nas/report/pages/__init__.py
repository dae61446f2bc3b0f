"""Pages: each an HTML file of its own that needs nothing beside it."""
