"""One run: built, executed, and opened again."""
