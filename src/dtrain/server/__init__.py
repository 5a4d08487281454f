"""The server: queue, API and pages over one database."""
