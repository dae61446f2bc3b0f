"""One NNI experiment of a run: its record, its manager and page, its processes, and what it left in its database."""
