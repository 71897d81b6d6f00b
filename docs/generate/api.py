"""The Python API: what `lra_bench` exports."""

from __future__ import annotations

from collections.abc import Iterator

import lra_bench
from generate.writing import Folder

INTRO = """\
# Python API

The package exports what follows; its other modules are not a stable interface. The functions call what the commands
call and write the same files. The examples in the [notebooks](../notebooks/first-run.md) are executed whenever the site
is built.

```python
import lra_bench as lra
```
"""


def write(folder: Folder) -> None:
    """Write the page of what the package exports; Sphinx reads the docstrings."""
    folder.put("api", "\n".join([INTRO, *_entries()]))


def _entries() -> Iterator[str]:
    for name in sorted(lra_bench.__all__, key=str.lower):
        directive = "autoclass" if isinstance(getattr(lra_bench, name), type) else "autofunction"
        members = "\n:members:" if directive == "autoclass" else ""
        yield f"```{{eval-rst}}\n.. {directive}:: lra_bench.{name}{members.replace(chr(10), chr(10) + '   ')}\n```\n"
    yield "```{eval-rst}\n.. autoclass:: lra_bench.records.schema.Result\n   :members: as_dict, numbers\n```\n"
