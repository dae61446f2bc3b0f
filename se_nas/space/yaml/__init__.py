"""Search spaces as YAML: the models of a file, its checks, reading and writing."""
