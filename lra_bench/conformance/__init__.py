"""What every mixer must keep, checked, and the record of it."""
