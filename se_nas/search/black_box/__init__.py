"""Black-box search: Optuna proposes architectures, an evaluator judges them."""
