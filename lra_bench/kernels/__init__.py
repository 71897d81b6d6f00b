"""Kernels: pure array functions, one operation a file, each beside its plain reference of the same signature."""
