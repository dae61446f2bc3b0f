"""What keeps budgets exactly: the decode, the repair of a proposal, and baselines within budgets."""
