"""A recipe's file over `base`, resolved for a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_bench.config.files import file_of, shipped
from lra_bench.config.kinds import held
from lra_bench.config.overlays import Overlay, fold, read, validated
from lra_bench.config.schema import Recipe, Scalar, Sweep, Tuned
from lra_bench.errors import ConfigError


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it stands in the files: the overlays to fold, before a task or a model is known."""

    name: str
    path: Path
    overlays: tuple[Overlay, ...]

    @property
    def tuned(self) -> Tuned | None:
        """What it cost to find its settings, if its own file says.

        Raises:
            ConfigError: it says so wrongly.
        """
        own = self.overlays[-1]
        said = own.values.get("tuned")
        return validated(Tuned, said, [own], under=("tuned",)) if isinstance(said, Mapping) else None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that its own file names, in order."""
        return tuple(self._section(self.overlays[-1], "tasks"))

    def resolve(self, task: str, settings: Sequence[Overlay] = ()) -> tuple[Recipe, dict[str, dict[str, Scalar]]]:
        """The recipe for the task called `task`, and the mixers' options that it sets, by model.

        Raises:
            ConfigError: an unknown key or a wrong value.
        """
        overlays: list[Overlay] = []
        options: dict[str, dict[str, Scalar]] = {}
        for overlay in self.overlays:
            values = {key: value for key, value in overlay.values.items() if key not in ("tasks", "options", "tuned")}
            own = self._section(overlay, "tasks").get(task) or {}
            overlays.append(overlay.part((), values))
            overlays.append(overlay.part(("tasks", task), {k: v for k, v in own.items() if k != "options"}))
            for section in (self._section(overlay, "options"), own.get("options") or {}):
                for model, turned in section.items():
                    options[model] = {**options.get(model, {}), **turned}
        overlays.extend(settings)
        return validated(Recipe, fold(overlays), overlays), options

    @staticmethod
    def _section(overlay: Overlay, key: str) -> Mapping[str, Any]:
        section = overlay.values.get(key) or {}
        if not isinstance(section, Mapping) or not all(isinstance(v, Mapping) for v in section.values()):
            raise ConfigError(f"{overlay.origin}: {key}: must map names to mappings")
        return section


def changed(recipe: Recipe, settings: Sequence[Overlay]) -> Recipe:
    """A recipe with settings laid over it.

    Raises:
        ConfigError: an unknown key or a wrong value.
    """
    overlays = [Overlay("the run's recipe", recipe.model_dump()), *settings]
    return validated(Recipe, fold(overlays), overlays)


def sweep(path: Path) -> Sweep:
    """The sweep in a YAML file, over `configs/sweeps/base.yaml`.

    Raises:
        ConfigError: it cannot be read, lacks a key, or a value is wrong.
    """
    own = held(read(path), "sweep")
    whole = own.part((), {**unsaid().values, **own.values})
    return validated(Sweep, whole.values, [whole])


def unsaid() -> Overlay:
    """What a sweep's own YAML need not say, `configs/sweeps/base.yaml`."""
    return read(shipped("configs") / "sweeps/base.yaml")


def recipe(name: str, include: Sequence[Path] = ()) -> RecipeFile:
    """The recipe called `name`, or in the file `name`, over `base`.

    Raises:
        ConfigError: it is not found or not readable.
    """
    path = file_of("configs", name, include)
    base = read(file_of("configs", "base", include))
    overlays = (base,) if path.stem == "base" else (base, held(read(path), "config"))
    return RecipeFile(path.stem, path, overlays)
