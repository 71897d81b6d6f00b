"""Our training steps against those of public PyTorch packages, in one run.

    python tests/peers/bench.py --theirs .venv-peers/bin/python --lengths 1024,4096

Ours and theirs are two processes that are told in turn to run two steps, of which the second is timed, so that what
disturbs the machine disturbs both; each is waited for, and left to come to rest, before the other one goes. Both have
the same batch, the same sizes and the same variables of the allocator. The first turn of each is not kept. The losses
are of the last step. They differ: the initial values are others, and ours has a rate that warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lra_bench.launch.place import WHOLE

HERE = Path(__file__).parent
REST = 0.3  # seconds in which the other process' threads stop waiting for work

PAIRS = (
    ("softmax", "torch softmax"),
    ("linear", "torch linear"),
    ("linformer", "torch linformer"),
    ("linformer", "linformer"),
    ("local", "torch local"),
    ("local", "local-attention"),
    ("performer", "performer-pytorch"),
    ("nystromformer", "nystrom-attention"),
    ("reformer[after=0]", "reformer-pytorch"),
    ("routing", "routing-transformer"),
    ("sinkhorn", "sinkhorn-transformer"),
    ("bigbird", "transformers BigBird"),
    ("longformer", "transformers Longformer"),
    ("fnet", "torch fft"),
)


class Failed(Exception):
    """A process ended before it answered; its last line on stderr."""


class Stepper:
    """A process that runs two steps each time it is told to, and times the second."""

    def __init__(self, python: str, script: str, *arguments: str) -> None:
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._child = subprocess.Popen(
            [python, str(HERE / script), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            text=True, env=WHOLE.environment(),
        )  # fmt: skip
        self.ms: list[float] = []
        self.loss = float("nan")

    def ready(self) -> dict[str, Any]:
        """Wait until it can run; what it says of itself."""
        return self._read()

    def go(self) -> None:
        """Have it run them, and wait."""
        time.sleep(REST)
        assert self._child.stdin is not None
        self._child.stdin.write("go\n")
        self._child.stdin.flush()
        answer = self._read()
        self.ms.append(answer["ms"])
        self.loss = answer["loss"]

    def _read(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith("{"):  # packages print, too
                return json.loads(line)
        self._log.seek(0)
        raise Failed((self._log.read().strip().splitlines() or ["no answer"])[-1])

    def end(self) -> None:
        self._child.kill()
        self._child.communicate()
        self._log.close()


def pair(ours: str, theirs: str, length: int, rounds: int, python: str) -> dict[str, Any]:
    """Both at one length: medians of `rounds` steps each, their ratio, and what they are."""
    fact: dict[str, Any] = {"ours": ours, "theirs": theirs, "length": length, "error": None}
    both = [Stepper(sys.executable, "ours.py", ours, str(length)), Stepper(python, "theirs.py", theirs, str(length))]
    try:
        ready = [stepper.ready() for stepper in both]
        if ready[0]["batch"] != ready[1]["batch"]:
            raise Failed("their batches differ")
        for _ in range(rounds + 1):
            for stepper in both:
                stepper.go()
        for who, stepper, said in zip(("ours", "theirs"), both, ready, strict=True):
            kept = sorted(stepper.ms[1:])
            fact |= {f"{who}_ms_p50": statistics.median(kept), f"{who}_ms": kept, f"{who}_loss": stepper.loss}
            fact[f"{who}_versions"] = said["ready"]
        fact |= {"ratio": fact["ours_ms_p50"] / fact["theirs_ms_p50"], "device": ready[0]["device"]}
    except (Failed, BrokenPipeError) as error:
        fact["error"] = str(error)
    finally:
        for stepper in both:
            stepper.end()
    return fact


def line(fact: dict[str, Any]) -> str:
    start = f"{fact['ours']:<18} {fact['theirs']:<24} {fact['length']:>6}  "
    if fact["error"]:
        return start + fact["error"]
    ms = f"{fact['ours_ms_p50']:>9.1f} {fact['theirs_ms_p50']:>9.1f} {fact['ratio']:>11.2f}"
    return start + ms + f"  {fact['ours_loss']:>9.3f} {fact['theirs_loss']:>11.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theirs", default=".venv-peers/bin/python", help="a Python that has the extra `peers`")
    parser.add_argument("--lengths", default="1024,4096")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each")
    parser.add_argument("--only", default="", help="these of our models, comma-separated")
    parser.add_argument("--out", type=Path, help="keep the numbers there as JSON")
    args = parser.parse_args()
    only = [name for name in args.only.split(",") if name]
    pairs = [p for p in PAIRS if not only or p[0].split("[")[0] in only]
    head = f"{'ours':<18} {'theirs':<24} {'L':>6}  {'ours, ms':>9} {'theirs':>9} {'ours/theirs':>11}"
    print(head + f"  {'our loss':>9} {'their loss':>11}")
    facts, before = [], os.getloadavg()[0]
    if before > 0.5:
        print(f"bench: the machine does other work, load {before:.1f}: PyTorch's threads suffer most", file=sys.stderr)
    for length in map(int, args.lengths.split(",")):
        for ours, theirs in pairs:
            facts.append(pair(ours, theirs, length, args.rounds, args.theirs))
            print(line(facts[-1]), flush=True)
    if args.out:
        load = {"load_before": before, "load_after": os.getloadavg()[0], "cores": os.cpu_count()}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"rounds": args.rounds, **load, "rows": facts}, indent=1) + "\n")
    return int(any(fact["error"] for fact in facts))


if __name__ == "__main__":
    sys.exit(main())
