"""One data set a file: what defines `build`, or `draw`, is a source."""
