"""The benchmark from Python: `import lra_bench as lra`, then `lra.run`, `lra.sweep`, `lra.results`, `lra.mixer`,
`lra.load`.

They call what the commands `lra run`, `lra sweep`, `lra compare` and `lra predict` call, and write the same files.
"""

from lra_bench.api.loaded import Loaded, load
from lra_bench.api.mixing import mixer
from lra_bench.api.training import results, run, sweep

__all__ = ["Loaded", "load", "mixer", "results", "run", "sweep"]
