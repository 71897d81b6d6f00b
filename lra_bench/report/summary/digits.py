"""How numbers are written."""

from __future__ import annotations


def three_digits(value: float | None) -> str | None:
    """Milliseconds, or things a second, with three digits or all before the point."""
    return None if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
