"""What is asked of finished runs: the same again, other lengths, effective context."""
