"""How a model is trained: the optimizer, the compiled step, and the run from the first step to the last."""
