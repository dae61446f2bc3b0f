"""Networks from elsewhere: which architecture of a space one is, and the space of what one can be cut to."""
