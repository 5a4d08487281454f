"""Where everything is kept: SQL is written here and nowhere else, on a connection that is given."""
