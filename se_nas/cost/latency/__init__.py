"""Latency: what a clock says of networks and blocks, and the table of a space that is made of it."""
