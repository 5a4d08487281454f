"""A long run under faults; `python -m soak` in `tests/`, or `make soak`."""
