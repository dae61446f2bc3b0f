"""Plots: each a Matplotlib figure of what a run wrote down."""
