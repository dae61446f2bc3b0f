"""Images that stay on disk, in folders or tar files, until worker processes decode and augment them."""
