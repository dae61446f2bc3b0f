"""Spaces from models that others wrote: what a model computes, the blocks in it, and the space around them."""
