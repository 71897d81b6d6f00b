"""How figures are drawn: colors and dashes, where labels stand, lines and points."""
