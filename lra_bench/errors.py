"""What can go wrong, and the one line that says so.

LraError
  ConfigError    a YAML, a flag or an option is wrong        exit code 2
  TaskError      a task cannot be found or understood     exit code 2
  DataError      a file of examples is missing or wrong   exit code 2
  PlaceError     a disk or a folder cannot be used        exit code 2
  RunFailed     a run ran and did not finish            exit code 1
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOM = "make room there, and the same command resumes"
OTHER = "have that changed, or name another place"
LOCKS = (
    "by locks no run is made twice at once: mount the file system with them (Lustre: -o flock; NFS: with lockd), or "
    "keep the results elsewhere (--results)"
)
REMEDIES = {  # what to do about a place, by what the system says of it
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "have the limit on the size of files raised (ulimit -f), and the same command resumes",
    errno.EIO: "the disk may be failing; name another place",
    errno.EROFS: OTHER,
    errno.EACCES: OTHER,
    errno.EPERM: OTHER,
    errno.ENOTDIR: "a part of it is a file; name another place",
    errno.EISDIR: "a file is wanted; name one",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ENOLCK: LOCKS,
    errno.EOPNOTSUPP: LOCKS,
}
# tensorstore says which error of the system it met; NumPy, which writes part of an array, only that it did
SYSTEM = re.compile(r"\[os_error_code='(\d+)'\]")
SHORT = re.compile(r"\d+ requested and \d+ written")
WORDS = {  # of libraries that keep the number to themselves, SQLite among them
    **{os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)},
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
    "locking protocol": errno.ENOLCK,
}


class LraError(Exception):
    """An error whose message is meant for the user: one or two lines, no traceback."""

    exit_code = 2


class ConfigError(LraError):
    """A YAML file, a flag or an option that is not what the schema asks for."""


class TaskError(LraError):
    """A task that cannot be found or understood."""


class DataError(LraError):
    """A file of examples that is missing, corrupt or mislabeled."""


class PlaceError(LraError):
    """A disk or a folder that cannot be used: it is full, read-only, or no folder. It is no result of any run."""


class RunFailed(LraError):
    """A run that ran and did not finish; `status` is what stands in its result."""

    exit_code = 1

    def __init__(self, message: str, status: str = "error") -> None:
        super().__init__(message)
        self.status = status


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that names the nearest valid name, or lists them all where none is near."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"it can be: {', '.join(names)}" if names else "there is none"


def of_place(error: OSError, place: Path | str = "a file") -> PlaceError:
    """What the system says of a place, and what to do; `place` is it where the error does not say."""
    number = _number(error)
    path = error.filename if error.filename is not None else place
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else "a file"
    why = os.strerror(number) if number else error.strerror or str(error)
    return PlaceError(f"{name}: {why}: {REMEDIES.get(number or 0, 'name another place')}")


def users_fault(error: BaseException, place: Path | str) -> LraError | None:
    """What the user has to change, behind whatever a library made of it: a place on a disk, or a device that is not
    there; None where it is neither."""
    return place_at_fault(error, place) or device_at_fault(error)


def device_at_fault(error: BaseException) -> ConfigError | None:
    """What JAX says where it finds no device to open, if the error is of that."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    if not isinstance(error, RuntimeError | AssertionError) or not any(one.filename.endswith(OPENS) for one in last):
        return None
    asked, said = (
        os.environ.get("JAX_PLATFORMS"),
        " ".join(str(error).partition("(set JAX_PLATFORMS")[0].split()).rstrip("."),
    )
    which = f"JAX_PLATFORMS={asked}: no such device" if asked else "no device"
    why = f": {said}" if said else ""
    return ConfigError(f"{which} that JAX can open is here{why}; with JAX_PLATFORMS=cpu it takes the processor")


def place_at_fault(error: BaseException, place: Path | str) -> PlaceError | None:
    """The place that is at fault, if one is, behind whatever a library made of it; `place` where nobody says which."""
    for one in _behind(error):
        if isinstance(one, PlaceError):
            return one
        if isinstance(one, OSError) and _number(one) in REMEDIES:
            return of_place(one, place)
        number = _said(str(one))
        if number in REMEDIES:
            return of_place(OSError(number, ""), place)
    return None


def _said(text: str) -> int | None:
    """The error of the system that a library's message is of."""
    found = SYSTEM.search(text)
    return int(found[1]) if found else next((number for words, number in WORDS.items() if words in text), None)


@contextmanager
def faults_told(place: Path | str) -> Iterator[None]:
    """What goes wrong meanwhile with a disk, `place` where nobody says which, or a device is said as `users_fault`.

    Raises:
        LraError: something does.
    """
    try:
        yield
    except LraError:
        raise
    except Exception as error:
        if fault := users_fault(error, place):
            raise fault from error
        raise


OPENS = "xla_bridge.py"  # JAX's module that opens devices


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error, those that it holds, and those that it was raised from."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            left += [other for other in (*inner, one.__cause__, one.__context__) if other is not None]


def _number(error: OSError) -> int | None:
    return errno.ENOSPC if error.errno is None and SHORT.search(str(error)) else error.errno


@contextmanager
def using(place: Path | str) -> Iterator[None]:
    """What goes wrong with files meanwhile is said of `place`, or of the part of it that the system names.

    Raises:
        PlaceError: something does.
    """
    try:
        yield
    except OSError as error:
        part = isinstance(error.filename, str) and Path(place).is_relative_to(error.filename)
        raise of_place(error if part else OSError(_number(error), str(error), str(place))) from None


def refused(error: LraError) -> dict[str, Any]:
    """What is said of it to who started the process, for `refusal`."""
    return {"message": str(error), "exit_code": error.exit_code, "place": isinstance(error, PlaceError)}


def refusal(said: Mapping[str, Any]) -> LraError:
    """The error of another process that said `refused`."""
    return (PlaceError if said.get("place") else ConfigError)(said["message"])
