"""What SE learned: a page, numbers to go on with, and what they say in words."""
