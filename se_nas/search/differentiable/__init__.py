"""Differentiable search: weights and choice logits learn in turn, the budgets kept by projection."""
