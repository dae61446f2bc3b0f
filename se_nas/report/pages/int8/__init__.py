"""The part of a page on the network in INT8."""
