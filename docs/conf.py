"""The site: Sphinx with MyST, notebooks that are executed, and reference pages that are generated."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of `lra` in notebooks
os.environ["LRA_CACHE"] = str(HERE / "_build/data")

from lra_bench import __version__  # noqa: E402

project = "lra_bench"
author = "The lra-bench authors"
copyright = "2026, the lra-bench authors. Apache License 2.0"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "myst-nb", ".myst": "myst-nb"}
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nitpicky = True
# Types of libraries whose inventories would have to be downloaded, and names that stand for types in annotations alone.
nitpick_ignore_regex = [
    ("py:.*", r"(jax|jaxtyping|flax|nnx|numpy|np|pandas|pd|pathlib|collections)\b.*"),
    ("py:.*", r"(Path|Sequence|Iterable|Names|Split|Status|MixerBase|Any|optional|KeyboardInterrupt|KeyError)"),
    ("py:.*", r"(lra_bench\.)?.*(LraError|ConfigError|DataError|Split|MixerBase|Status)"),
]

myst_enable_extensions = ["deflist"]
smartquotes = False  # options begin with two hyphens
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_in_temp = True
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88

html_theme = "pydata_sphinx_theme"
html_title = f"lra_bench {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_depth": 3,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}

# Pages of the repository that the site has under another name; other links out of `docs` become downloads.
INCLUDED = {"../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}


def _generate(app: Sphinx) -> None:
    """Write the reference pages before Sphinx looks for sources."""
    import generate

    generate.write(Path(app.srcdir) / "reference")


def _link_inside(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links to files that the site includes lead to its own pages."""
    for outside, inside in INCLUDED.items():
        source[0] = re.sub(rf"\]\({re.escape(outside)}", f"]({inside}", source[0])


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.connect("builder-inited", _generate)
    app.connect("source-read", _link_inside)
