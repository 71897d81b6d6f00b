"""frame -> tables."""
