"""Two training steps of ours, those that `lra speed` measures, run whenever a line is read; the second is timed.

    python tests/peers/ours.py 'reformer[after=0]' 1024

Prints a line of JSON when it is compiled and one for each timed step: its milliseconds and its loss. The first step
after a rest wakes the threads: on two cores it took up to 1.6 times as long, which no training sees.
"""

from __future__ import annotations

import json
import sys
import time

import jax

from lra_bench import sweeps
from lra_bench.runs.build import compiled
from lra_bench.speed import random_batch


def main() -> None:
    request = sweeps.Request(sys.argv[1], "listops", "speed", length=int(sys.argv[2]))
    (run,) = sweeps.runs(request)
    program, facts = compiled(run)
    drawn = random_batch(run)
    state, batch = program.init, program.feed(drawn)
    ready = {"ready": json.loads(facts["versions"]), "impl": facts["impl"], "device": facts["device"]}
    print(json.dumps(ready | {"batch": [int(drawn.tokens.sum()), int(drawn.label.sum())]}), flush=True)
    for _ in sys.stdin:
        for _ in range(2):
            start = time.perf_counter()
            state, loss = program.training.step(state, *batch)
            jax.block_until_ready((state, loss))
        print(json.dumps({"ms": 1e3 * (time.perf_counter() - start), "loss": float(loss)}), flush=True)


if __name__ == "__main__":
    main()
