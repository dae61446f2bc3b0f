"""Runs: from a YAML file to a certified, retrained architecture with a report, resumable at every point."""
