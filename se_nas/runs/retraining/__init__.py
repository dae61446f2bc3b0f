"""Retraining the network of an answer, on images in memory or on disk."""
