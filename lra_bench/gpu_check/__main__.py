"""`python -m lra_bench.gpu_check -t TASK --out FOLDER [--minutes N]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lra_bench import gpu_check
from lra_bench.errors import LraError
from lra_bench.gpu_check import PARTS, Lease, OutOfTime, Wanted
from lra_bench.gpu_check.lease import SILENCE, environment

MINUTES = 8.0


def main(arguments: list[str] | None = None) -> int:
    """Go through the parts until the time is over; exit code 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="python -m lra_bench.gpu_check", description=gpu_check.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of what is found, and not done again")
    parser.add_argument("-t", "--task", required=True, help="whose symbols steps have, and on which models are trained")
    parser.add_argument("--train", default="", help="models that are trained on it, comma-separated")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"that it may take, else {MINUTES:g}")
    parser.add_argument("--silence", type=float, default=SILENCE, help=f"seconds until what hangs, else {SILENCE:g}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}, comma-separated")
    parser.add_argument("-m", "--models", default=Wanted.models, help="whose steps are timed and which are checked")
    parser.add_argument("-n", "--lengths", default=",".join(map(str, Wanted.lengths)), help="of timed steps")
    parser.add_argument("--dtypes", default=",".join(Wanted.dtypes), help="of timed steps")
    parser.add_argument("--tokens", type=int, default=Wanted.tokens, help="of a timed batch")
    parser.add_argument("--rounds", type=int, default=Wanted.rounds, help="timed steps of each model")
    parser.add_argument("-c", "--config", default=Wanted.config, help="by which they are trained")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="over that config")
    args = parser.parse_args(arguments)
    wanted = Wanted(
        task=args.task,
        trained=args.train,
        models=args.models,
        lengths=tuple(map(int, args.lengths.split(","))),
        dtypes=tuple(args.dtypes.split(",")),
        tokens=args.tokens,
        rounds=args.rounds,
        config=args.config,
        settings=tuple(args.set),
    )
    lease = Lease(args.out, 60 * args.minutes, args.silence)
    with environment(lease.environment()):
        return checked(lease, wanted, args.parts.split(","))


def checked(lease: Lease, wanted: Wanted, parts: list[str]) -> int:
    """One part after another; what fails spares the rest."""
    failed = [part for part in parts if part not in PARTS]
    for part in failed:
        lease.say(f"--parts: '{part}' is none of {', '.join(PARTS)}")
    for part in parts if not failed else ():
        try:
            PARTS[part](lease, wanted)
        except OutOfTime:
            lease.say(f"{part}: the time is over; the same command resumes")
            break
        except LraError as error:
            failed.append(part)
            lease.say(f"{part}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
