"""The worker: an agent that only calls out, and a shim for each attempt that outlives it."""
