"""Samplers that Optuna has not."""
