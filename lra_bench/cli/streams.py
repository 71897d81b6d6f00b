"""The three standard streams: open, in UTF-8 but for a terminal that has another encoding, and harmless."""

from __future__ import annotations

import contextlib
import locale
import os
import re
import sys
from io import TextIOWrapper
from typing import Any

# What a terminal obeys rather than shows: control characters, changes of direction, and halves of characters, which
# stand for bytes of a name that are no UTF-8.
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """The text with what a terminal would obey as it is written in Python: `\\x1b` for Escape."""
    return OBEYED.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def in_utf8() -> None:
    """Begin the process again in Python's UTF-8 mode, where the locale has another encoding for the names of files."""
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8" and "utf8=1" not in sys._xoptions:
        os.execv(sys.executable, [sys.executable, "-X", "utf8=1", *sys.orig_argv[1:]])


def opened() -> None:
    """Give the process the standard streams that it was started without, and all of them their encoding.

    A descriptor that is closed would be the next file's that is opened, and what is printed would go there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(number))
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(**_encoding(stream, reads=number == 0))


def _nowhere(number: int) -> Any:
    flags = os.O_WRONLY if number else os.O_RDONLY
    handle = os.open(os.devnull, flags)
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)
    return os.fdopen(number, "w" if number else "r", encoding="utf-8")


def _encoding(stream: TextIOWrapper, *, reads: bool) -> dict[str, Any]:
    """UTF-8, whatever the locale; a terminal is written to as it reads, with escapes for what it cannot show."""
    if reads:
        return {} if stream.isatty() else {"encoding": "utf-8-sig", "errors": "strict"}
    return {"encoding": locale.getencoding() if stream.isatty() else "utf-8", "errors": "backslashreplace"}


def silenced() -> None:
    """Nothing that is still to be written to stdout can fail any more."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
