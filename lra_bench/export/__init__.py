"""A trained run's model as one file that needs no code of ours: StableHLO, its weights, and a card.

`artifact` writes and reads the file and opens nothing of the package but its errors; `of_run` makes one of a run and
holds it against the run; `inputs` turns what a user has into a model's tokens, and a model's logits into answers.
"""
