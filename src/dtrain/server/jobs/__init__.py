"""The use cases about jobs, one a file: load, ask the rules, store in one transaction."""
