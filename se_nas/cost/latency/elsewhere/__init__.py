"""Latencies that somebody else measured: which networks to hand out for it, and a table of the times that come back."""
