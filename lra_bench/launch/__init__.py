"""Who starts the runs: one engine a file."""
