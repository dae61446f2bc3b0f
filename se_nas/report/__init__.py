"""What a run shows: pages and plots that are drawn from the files of the run alone."""
