"""What a seed can be."""

LAST = 2**32 - 1  # the largest that JAX's generator takes whole: of a larger one it drops the upper half
