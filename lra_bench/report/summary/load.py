"""Times that were measured while other programs ran on the same cores: told apart wherever a time is shown."""

from __future__ import annotations

BUSY = 0.1  # share of a run's cores: where others had as much, its times are tagged
NOTE = (
    "busy N%: other programs, or other machines of the host, had N% of the run's cores while it was timed: "
    "it takes less on an idle machine"
)


def tag(load: float | None) -> str:
    """To stand behind a time: what others had of the cores meanwhile, in percent, where that is much."""
    return f" busy {100 * load:.0f}%" if load is not None and load >= BUSY else ""
