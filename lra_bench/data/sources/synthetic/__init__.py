"""Examples that are drawn from a seed."""
