"""A user's own Python file: the code in it, and the module that it is."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from lra_bench.errors import LraError


def text(path: Path, said: Callable[[ast.stmt], bool] = lambda node: False) -> str:
    """What can move a number in the file: its code without comments, docstrings, the layout and what is only `said`."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not said(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [item for item in node.body if not _is_constant(item)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def hash_of(path: Path, error: type[LraError]) -> str:
    """Ten hexadecimal digits of the SHA-256 of the file's code.

    Raises:
        `error`: there is no such file, or it is no Python.
    """
    try:
        return hashlib.sha256(text(path).encode()).hexdigest()[:10]
    except OSError:
        raise error(f"{path}: there is no such file") from None
    except (SyntaxError, ValueError) as fault:
        raise error(f"{path}: no Python: {fault}") from None


def imported(path: Path, error: type[LraError]) -> ModuleType:
    """The module that the file is.

    Raises:
        `error`: running it ends in an exception.
    """
    spec = importlib.util.spec_from_file_location(f"lra_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as fault:
        raise error(f"{place(path, fault)}: cannot be imported: {type(fault).__name__}: {fault}") from fault
    return module


def place(path: Path, fault: Exception) -> str:
    """The file, with the line of it that an exception came through last."""
    lines = [frame.lineno for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)
