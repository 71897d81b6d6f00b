"""lra_bench: the honest comparison of efficient transformers."""

__version__ = "0.1.0"
