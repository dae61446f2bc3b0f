"""The evidence of a run as sections of its page, in words that say no more than the intervals do; a file a part."""
