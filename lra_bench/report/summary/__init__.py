"""Results summed up: which belong together, their mean, interval and rank."""
