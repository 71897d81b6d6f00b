"""How a model is trained: the optimiser, the compiled step, and the run from the first step to the last."""
