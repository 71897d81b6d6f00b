"""What a GPU that is lent for minutes is asked, most valuable first.   `python -m lra_bench.gpu_check --help`

Each part is kept as it ends, and what is kept is not done again: the same command resumes in the next lease. JAX runs
in processes of their own, so that nothing here holds the device. Beside JAX, what trains, times and checks needs flax,
optax, orbax, numpy, pydantic, yaml and jaxtyping alone.
"""

from lra_bench.gpu_check.lease import Lease, OutOfTime
from lra_bench.gpu_check.parts import PARTS
from lra_bench.gpu_check.wanted import Wanted

__all__ = ["PARTS", "Lease", "OutOfTime", "Wanted"]
