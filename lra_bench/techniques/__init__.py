"""What one does to a model, not what a model is. A technique at zero strength changes nothing."""
