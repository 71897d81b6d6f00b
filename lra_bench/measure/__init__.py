"""Every number with a unit is born here; nothing here knows a model."""
