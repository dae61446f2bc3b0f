"""Images and labels: data sets in memory, and images on disk."""
