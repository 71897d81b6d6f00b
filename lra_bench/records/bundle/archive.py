"""A bundle's files, from a zip or a folder: plain files of names that a bundle may have, no larger than they may be."""

from __future__ import annotations

import contextlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lra_bench.errors import ConfigError
from lra_bench.records.bundle.manifest import COUNT, FILE_BYTES, FOLDER, MANIFEST, PATH, TOTAL_BYTES

BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


class Source(Protocol):
    """Where files are read from. `names` are those of all that is there; a strange kind of file is an error."""

    def names(self) -> list[str]: ...

    def read(self, name: str, limit: int) -> bytes: ...


class Zip:
    """The files in a zip."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file

    def names(self) -> list[str]:
        """Of files and folders, as they stand in it."""
        for info in self._file.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ConfigError(f"{shown(info.filename)}: a link or device; a bundle has plain files")
        return [info.filename for info in self._file.infolist()]

    def read(self, name: str, limit: int) -> bytes:
        """At most `limit` bytes of a file, however many it says it has."""
        with self._file.open(name) as file:
            return file.read(limit)


class Folder:
    """The files in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """Of files and folders, folders ending in a slash."""
        return [self._name(path) for path in sorted(self._path.rglob("*"))]

    def _name(self, path: Path) -> str:
        name = path.relative_to(self._path).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{shown(name)}: a link or device; a bundle has plain files")
        return f"{name}/" if path.is_dir() else name

    def read(self, name: str, limit: int) -> bytes:
        """At most `limit` bytes of a file."""
        with (self._path / name).open("rb") as file:
            return file.read(limit)


class Archive:
    """A source whose names were looked at. It gives no more than `TOTAL_BYTES` in all."""

    def __init__(self, source: Source) -> None:
        self._source, self._left = source, TOTAL_BYTES
        self.names = [name for name in _allowed(source.names()) if not name.endswith("/")]

    def read(self, name: str) -> bytes:
        """A file, whole.

        Raises:
            ConfigError: it is larger than a bundle's file may be, or the files so far are.
        """
        limit = min(FILE_BYTES, self._left)
        try:
            found = self._source.read(name, limit + 1)
        except BROKEN as error:
            raise ConfigError(f"{name}: cannot be read: {shown(str(error))}") from None
        if len(found) > limit:
            raise ConfigError(
                f"{name}: larger than a bundle may be: {FILE_BYTES:,} bytes a file, {TOTAL_BYTES:,} in all"
            )
        self._left -= len(found)
        return found


def _allowed(names: list[str]) -> list[str]:
    if len(names) > COUNT:
        raise ConfigError(f"{len(names):,} files; a bundle has at most {COUNT:,}")
    for name in names:
        if name != MANIFEST and not re.fullmatch(PATH, name) and not re.fullmatch(FOLDER, name):
            raise ConfigError(f"{shown(name)}: no file of a bundle")
    if len(set(names)) < len(names):
        raise ConfigError("a file is in it twice")
    return names


def shown(text: str) -> str:
    """A stranger's text, without what a terminal would take for a command."""
    return text[:100].encode("unicode_escape").decode() if not text.isprintable() else text[:100]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The bundle at `path`, a zip or a folder.

    Raises:
        ConfigError: there is none, it is broken, or something in it is no file of a bundle; names `path`.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file")
    try:
        with contextlib.ExitStack() as stack:
            yield Archive(_source(path, stack))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _source(path: Path, stack: contextlib.ExitStack) -> Source:
    if path.is_dir():
        return Folder(path)
    try:
        return Zip(stack.enter_context(zipfile.ZipFile(path)))
    except BROKEN as error:
        raise ConfigError(f"no bundle, which is a zip or a folder: {shown(str(error))}") from None
