"""What one does to a model, not what a model is. A lever at zero strength changes nothing."""
