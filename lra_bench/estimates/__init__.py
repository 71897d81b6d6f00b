"""What a step would be on a device that is not here.   `python -m lra_bench.estimates RUNS ASKED`

XLA compiles for a GPU or a TPU without one: with its real fusion, its real plan of memory, its real assembler. What it
made is weighed: kernels that are launched, bytes to and from the device's memory, arithmetic. The estimate is the
largest of three times (a roofline). No time is measured, and none of these numbers stands among measured ones.
"""

from lra_bench.estimates.estimate import estimate

__all__ = ["estimate"]
