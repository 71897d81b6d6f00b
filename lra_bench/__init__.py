"""lra_bench: a Long Range Arena benchmark of efficient transformers in JAX."""

__version__ = "0.2.0"
