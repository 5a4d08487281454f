"""How fast DTrain is, beside the floor of the machine and beside its peers; see `__main__`."""
