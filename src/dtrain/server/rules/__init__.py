"""What the server decides, as pure functions: no clock, no database, no thread."""
