"""The evidence of a run, gathered: which trainings and searches it needs, and what they gave."""
