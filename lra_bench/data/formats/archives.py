"""Released .tar.gz files, read to their end without unpacking anything to disk."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from lra_bench.errors import DataError


def members(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[re.Match[str], bytes]]:
    """The files in the archive whose whole name is `wanted`, with their contents, in its order.

    Raises:
        DataError: it is damaged, cut off, or no .tar.gz.
    """
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for member in archive:
                named = wanted.fullmatch(member.name.removeprefix("./"))
                file = archive.extractfile(member) if named and member.isreg() else None
                if named and file:
                    yield named, file.read()
            while unpacked.read(1 << 20):  # to its checksum, which tells a file that was cut off
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: damaged, or no .tar.gz: {error}") from None


def one(folder: Path, pattern: str, origin: str) -> Path:
    """The one file in `folder` whose name is of the pattern.

    Raises:
        DataError: there is none, or there are several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        named = ", ".join(path.name for path in found) or "nothing of that name"
        raise DataError(f"{folder}: looked for one {pattern}, as {origin}; there is {named}")
    return found[0]
