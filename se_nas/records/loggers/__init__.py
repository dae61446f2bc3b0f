"""Loggers behind extras, one service a file; each is imported when it is first asked for."""
