"""Evaluators: how a proposed architecture is judged."""
