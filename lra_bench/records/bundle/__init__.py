"""Results that travel: a results folder as one file with hashes, and such a file taken into another results folder.

    manifest.json                 who made it, when, by which versions, and the SHA-256 of every other file
    runs/<run>/run.json ...     as in a results folder, without checkpoints and logs

What arrives is read as text and checked; nothing in it is imported, executed or unpickled.
"""

from lra_bench.records.bundle.merge import Merged, merge
from lra_bench.records.bundle.pack import Packed, pack

__all__ = ["Merged", "Packed", "merge", "pack"]
