"""Python files as code: what in them can move a number, what they import, and the module that one is."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from lra_bench.errors import LraError

PACKAGE = Path(__file__).parent
DIGITS = 10  # of a hash of code, hexadecimal

_added: set[str] = set()  # to the path of modules, for a file of the user's; another one is not to find its own there

T = TypeVar("T")
Said = Callable[[ast.stmt], bool]


def nothing(node: ast.stmt) -> bool:
    """No statement is only said."""
    return False


def text(path: Path, said: Said = nothing) -> str:
    """What can move a number in the file: its code without comments, docstrings, the layout and what is only `said`.

    The same under every version of Python that reads the file: a field of its syntax tree that is empty is left out, as
    is one that another version does not have.
    """
    tree = _tree(path)
    tree.body = [node for node in tree.body if not said(node)]
    return repr(_canonical(tree))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def _canonical(node: Any) -> Any:
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, []) and name != "kind"}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = [item for item in node.body if not _is_constant(item)]
    if isinstance(node, ast.Constant):  # None is a value here, and 1 is another than True and 1.0
        fields = {"value": f"{type(node.value).__name__} {node.value!r}"}
    return [type(node).__name__, *([name, _canonical(value)] for name, value in sorted(fields.items()))]


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def hash_of(path: Path, error: type[LraError], said: Said = nothing) -> str:
    """Ten hexadecimal digits over the code of the file, and of the user's own files that it imports, and they import.

    Raises:
        `error`: there is no such file, or one is no Python.
    """
    return digest([text_of(path, error, said), *(text_of(other, error) for other in sorted(local(path, error)))])


def text_of(path: Path, error: type[LraError], said: Said = nothing) -> str:
    """`text`.

    Raises:
        `error`: there is no such file, or it is no Python.
    """
    return _read(lambda path, changed_ns: _text(path, changed_ns, said), path, error)


@lru_cache(1024)
def _text(path: Path, changed_ns: int, said: Said) -> str:
    return text(path, said)


def digest(texts: Iterable[str]) -> str:
    """Ten hexadecimal digits over texts, in their order."""
    content = hashlib.sha256()
    for one in texts:
        content.update(hashlib.sha256(one.encode()).digest())
    return content.hexdigest()[:DIGITS]


def local(path: Path, error: type[LraError]) -> set[Path]:
    """The user's own files that a file imports, and that those import: below a folder of the path of modules that holds
    no installed packages, beside it, or below the working folder. Nothing is executed.

    Raises:
        `error`: one of them is no Python.
    """
    if path.resolve().is_relative_to(PACKAGE):
        return set()
    return reached([path], _own_file(path), error)


def _beside(path: Path) -> list[Path]:
    """Where modules of the user's own are looked for that a file imports, after all libraries."""
    return [path.resolve().parent, Path.cwd().resolve()]


def _is_installed(root: Path) -> bool:
    prefixes = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    packages = {"site-packages", "dist-packages"} & set(root.parts)
    return bool(packages) or any(root.is_relative_to(prefix) for prefix in prefixes)


def _own_file(path: Path) -> Callable[[Import], Path | None]:
    """What finds the file that Python imports for a file of the user's, where it is the user's own."""
    beside = _beside(path)
    entries = (Path(entry).resolve() for entry in sys.path if entry and entry not in _added)
    roots = list(dict.fromkeys([*entries, *beside]))
    return partial(_own_below, roots, {root for root in roots if root in beside or not _is_installed(root)})


def _own_below(roots: Sequence[Path], own: Collection[Path], one: Import) -> Path | None:
    """A library of the same name goes before a module of the user's own."""
    if one.near is not None:
        return one.file([])
    top = one.name.split(".")[0]
    if top == PACKAGE.name or top in sys.stdlib_module_names:
        return None
    whole = next((root for root in roots if Import(top, None).file([root])), None)  # a package without __init__.py last
    root = whole or next((root for root in roots if (root / top).is_dir()), None)
    return one.file([root]) if root is not None and root in own else None


class Import(NamedTuple):
    """A module that a file names, and the folder that its name is relative to, if it is."""

    name: str  # dotted
    near: Path | None

    def of(self, package: str) -> bool:
        """Is it in the package?"""
        return self.near is None and self.name.split(".")[0] == package

    def file(self, roots: Iterable[Path]) -> Path | None:
        """Where it lies below the first of the folders that has it; None if none has."""
        below = (root.joinpath(*self.name.split(".")) for root in ([self.near] if self.near else roots))
        files = (file for one in below for file in (one.with_suffix(".py"), one / "__init__.py"))
        return next((file for file in files if file.is_file()), None)


def reached(entries: Iterable[Path], found: Callable[[Import], Path | None], error: type[LraError]) -> set[Path]:
    """The files that `entries` import, and that those import, as far as `found` knows a module's; not the entries.

    Raises:
        `error`: one of them is no Python.
    """
    first = {path.resolve() for path in entries}
    seen, left = set(first), list(first)
    while left:
        path = left.pop()
        new = {file.resolve() for one in imports(path, error) if (file := found(one))} - seen
        seen |= new
        left += new
    return seen - first


def imports(path: Path, error: type[LraError]) -> tuple[Import, ...]:
    """The modules that a file imports, at its top or in a function; of `from a import b`, `a.b` and `a`: b may be a
    module, or stand in one.

    Raises:
        `error`: there is no such file, or it is no Python.
    """
    return _read(_imports, path, error)


@lru_cache(1024)
def _imports(path: Path, changed_ns: int) -> tuple[Import, ...]:
    found: list[Import] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found += (Import(alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            near = path.parents[node.level - 1] if node.level else None
            above = f"{node.module}." if node.module else ""
            found += (Import(f"{above}{alias.name}", near) for alias in node.names)
            found += [Import(node.module, near)] if node.module else []
    return tuple(found)


def _read(read: Callable[[Path, int], T], path: Path, error: type[LraError]) -> T:
    try:
        return read(path, path.stat().st_mtime_ns)
    except OSError:
        raise error(f"{path}: there is no such file") from None
    except (SyntaxError, ValueError) as fault:
        raise error(f"{path}: no Python: {fault}") from None


def imported(path: Path, error: type[LraError]) -> ModuleType:
    """The module that the file is. It may import what lies beside it and in the working folder, where that has not the
    name of a library's module.

    Raises:
        `error`: running it ends in an exception, or imports a module of another folder by the name of one of its own.
    """
    spec = importlib.util.spec_from_file_location(f"lra_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    new = [str(folder) for folder in _beside(path) if str(folder) not in sys.path]
    sys.path += new
    _added.update(new)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as fault:
        raise error(f"{place(path, fault)}: cannot be imported: {type(fault).__name__}: {fault}") from fault
    _hold(path, error)
    return module


def _hold(path: Path, error: type[LraError]) -> None:
    """Of modules by one name in two folders, a process has the one that was imported first; see that it is the file's.

    Raises:
        `error`: it is another's.
    """
    found = _own_file(path)
    for one in {one for file in (path, *local(path, error)) for one in imports(file, error) if one.near is None}:
        own, loaded = found(one), getattr(sys.modules.get(one.name), "__file__", None)
        if own and loaded and Path(loaded).resolve() != own.resolve():
            raise error(f"{path}: imports {own}, but {loaded} has that name in this process; rename one of the two")


def place(path: Path, fault: Exception) -> str:
    """The file, with the line of it that an exception came through last."""
    lines = [frame.lineno for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)
