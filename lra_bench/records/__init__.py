"""Results: their schema, where they are kept, whose code and data they are of, and bundles of them."""
