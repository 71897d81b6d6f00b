"""YAML -> frozen, typed, strict. The only room that reads YAML.

A recipe (`configs/*.yaml`) says how we train, a task (`tasks/*.yaml`) what is asked. `configs/base.yaml` lists every
option with its default; a recipe overrides it, its section for the task overrides that, `--set a.b=c` overrides all. A
technique (`configs/techniques/*.yaml`) says what is done to a model besides. A `Run` is one model on one task with one
seed, fully resolved; its id is a hash of everything that decides the numbers and is asked for: settings, the content of
the user's files, the code of the mixer's file. So a changed default cannot hide behind an old result. The package's own
code and the libraries' versions stand in the result (`fingerprint.py`). A `Launcher` says who starts the runs.
"""

from lra_bench.config.devices import Device, device
from lra_bench.config.files import file_of, first_comment, folders, found, shipped
from lra_bench.config.kinds import held, kind_of
from lra_bench.config.launchers import Launcher, Local, Ray, Slurm, launcher
from lra_bench.config.overlays import Overlay, flat, fold, nested, read, validated
from lra_bench.config.recipes import RecipeFile, changed, recipe, sweep
from lra_bench.config.run import AND, Match, MixerSpec, Run, digest, of_mixers
from lra_bench.config.schema import (
    CROSS,
    Backbone,
    Count,
    Optimizer,
    Recipe,
    Scalar,
    Schedule,
    Strict,
    Sweep,
    TaskSpec,
    Training,
    Tuned,
)
from lra_bench.config.search import Range, Space, first, recipe_text, space, spaces
from lra_bench.config.techniques import (
    FLOATS,
    NO_TECHNIQUE,
    Adapt,
    Distill,
    Multitask,
    Precision,
    Prune,
    Quantize,
    Sharing,
    Technique,
    Techniques,
    technique_files,
    techniques,
)
from lra_bench.config.techniques import words as technique_words
from lra_bench.config.values import declared, setting

__all__ = [
    "AND",
    "CROSS",
    "FLOATS",
    "NO_TECHNIQUE",
    "Adapt",
    "Backbone",
    "Count",
    "Device",
    "Distill",
    "Launcher",
    "Local",
    "Match",
    "MixerSpec",
    "Multitask",
    "Optimizer",
    "Overlay",
    "Precision",
    "Prune",
    "Quantize",
    "Range",
    "Ray",
    "Recipe",
    "RecipeFile",
    "Run",
    "Scalar",
    "Schedule",
    "Sharing",
    "Slurm",
    "Space",
    "Strict",
    "Sweep",
    "TaskSpec",
    "Technique",
    "Techniques",
    "Training",
    "Tuned",
    "changed",
    "declared",
    "device",
    "digest",
    "file_of",
    "first",
    "first_comment",
    "flat",
    "fold",
    "folders",
    "found",
    "held",
    "kind_of",
    "launcher",
    "nested",
    "of_mixers",
    "read",
    "recipe",
    "recipe_text",
    "setting",
    "shipped",
    "space",
    "spaces",
    "sweep",
    "technique_files",
    "technique_words",
    "techniques",
    "validated",
]
