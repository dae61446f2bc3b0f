"""What an untrained network says of its worth: the NASWOT score, as an evaluator and as a first filter."""
