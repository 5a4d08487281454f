"""The command line, `dtrain`. Each command is imported when it is called."""
