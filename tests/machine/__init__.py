"""A machine of its own: systemd is its first process and control groups are of version 2 alone."""
