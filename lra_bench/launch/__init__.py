"""Who starts the cells: one engine a file."""
