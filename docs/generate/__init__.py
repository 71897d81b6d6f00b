"""The reference pages of the site, written from the package itself: `docs/reference/`, which git ignores.

`conf.py` calls `write` before Sphinx reads the sources. Nothing here needs Sphinx. A page that has not changed is left
as it is, so that Sphinx does not read it again; a page that nothing writes any more is removed.
"""

from __future__ import annotations

from pathlib import Path

from generate import api, columns, commands, conformance, estimates, keys, models, published, tasks
from generate.results import Kept
from generate.writing import Folder

ROOT = Path(__file__).parents[2]
INDEX = """\
# Reference

These pages are generated from the package when the site is built.

```{toctree}
:maxdepth: 1

models/index
tasks/index
commands/index
keys
columns
published
conformance
estimates
api
```
"""


def write(out: Path) -> None:
    """Write every reference page into `out`. Data that are made for it are in the package's cache, `LRA_CACHE`."""
    folder = Folder(out)
    folder.put("index", INDEX)
    models.write(folder, Kept.read(ROOT / "results"))
    for part in (tasks, commands, keys, columns, published, conformance, estimates, api):
        part.write(folder)
    folder.remove_others()
