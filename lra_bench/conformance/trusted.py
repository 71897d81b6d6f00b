"""Which implementations a device is trusted with: each is held against its reference at its first use, and the verdict
is kept.

A kernel that no device has run is not trusted. What differs is left out where nobody asked for it by name.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from lra_bench import config, data, kernels, mixers
from lra_bench.conformance.implementations import LENGTH, Agreement, agreement, every, reference, taken, tried
from lra_bench.errors import RunFailed
from lra_bench.kernels.impl import FORMS, PALLAS
from lra_bench.mixers.base import Dims
from lra_bench.records import fingerprint, store

PATIENCE = 2  # processes that may be lost to a kernel before it is left out
OPTION = dict.fromkeys(FORMS.values(), PALLAS)  # what an implementation is called as an option


def kept(mixer: Path, options: Mapping[str, Any], dims: Dims) -> Agreement:
    """`agreement` on this process's device, made once for the code, the device, and the sizes of a head.

    A kernel from whose trial two processes did not come back, as it crashes them or hangs until they are killed, does
    not agree, and is not tried again.
    """
    facts = _code(mixer) | _case(options, dims)
    path = _folder() / f"{config.digest(facts)}.json"
    if not path.exists():
        with store.locked(path.with_suffix("")):
            if not path.exists():  # another process may have made it meanwhile
                return _tried(path, facts, mixers.load(mixer), options, dims)
    return Agreement(**store.read_json(path)["found"])


def known(mixer: Path) -> Iterator[tuple[Mapping[str, Any], Agreement]]:
    """The verdicts that are kept of the mixer's code on this process's device, and of which case each is."""
    now = _code(mixer).items()
    for path in sorted(_folder().glob("*.json")):
        record = store.read_json(path)
        if now <= record["facts"].items():
            yield record["facts"], Agreement(**record["found"])
    for path in sorted(_folder().glob("*.trials")):
        begun = store.read_json(path)
        if now <= begun["facts"].items() and begun["lost"] == PATIENCE:
            yield begun["facts"], _lost(path, begun)


def refused(mixer: Path, options: Mapping[str, Any], dims: Dims) -> Iterator[tuple[str, Agreement]]:
    """The implementations, as an option calls them, that the mixer would take by itself on this process's device, and
    that do not agree with the reference there.

    Raises:
        RunFailed: it has no other to take.
    """
    module = mixers.load(mixer)
    while options.get("impl") == "auto":
        impl = taken(module, options, dims)
        if impl == reference(module):
            return
        found = kept(mixer, options, dims)
        if found.passed:
            return
        yield (name := OPTION.get(impl, impl)), found
        dims = replace(dims, target=replace(dims.target, refused=dims.target.refused | {name}))
        _has_another(mixer, options, dims, f"{name}, {found.figures}")


def _folder() -> Path:
    return data.cache_root() / "agreements"


def _code(mixer: Path) -> dict[str, Any]:
    """What a verdict is of, whatever the case: the code, the device and the compiler."""
    return {
        "mixer": fingerprint.of_files([mixer]),
        "kernels": fingerprint.of_files(sorted(Path(kernels.__file__).parent.glob("*.py"))),
        "device": jax.local_devices()[0].device_kind,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")},
    }


def _case(options: Mapping[str, Any], dims: Dims) -> dict[str, Any]:
    return {
        "options": dict(options),
        "width": dims.width,
        "heads": dims.heads,
        "head_width": dims.head_width,
        "length": min(dims.length, LENGTH),
        "rotary": dims.rotary,
        "dtype": dims.dtype,
        "causal": dims.causal,
        "platform": dims.target.platform,
        "refused": sorted(dims.target.refused),
        "precisions": list(tried(dims.target.platform)),
    }


def _tried(
    path: Path, facts: Mapping[str, Any], module: ModuleType, options: Mapping[str, Any], dims: Dims
) -> Agreement:
    trials = path.with_suffix(".trials")
    begun = store.read_json(trials) if trials.exists() else {"lost": 0}
    if begun["lost"] == PATIENCE:
        return _lost(trials, begun)
    named = {"impl": taken(module, options, dims), "reference": reference(module)}
    store.write_json(trials, {"facts": facts, "lost": begun["lost"] + 1, **named})
    try:
        found = agreement(module, options, dims)
    finally:
        trials.unlink()
    store.write_json(path, {"facts": facts, "found": found._asdict()})
    return found


def _lost(trials: Path, begun: Mapping[str, Any]) -> Agreement:
    said = f"{begun['lost']} processes that tried it here did not come back; without {trials} it is tried again"
    return Agreement(begun["impl"], begun["reference"], False, said)


def _has_another(mixer: Path, options: Mapping[str, Any], dims: Dims, last: str) -> None:
    """It may have no other: `softmax` takes nothing that walks over blocks on a GPU unless it is asked for by name."""
    module, target = mixers.load(mixer), dims.target
    try:
        taken(module, options, dims)
    except StopIteration as error:
        others = [one for one in every(module, target.platform) if one not in target.refused]
        raise RunFailed(
            f"{mixer.stem}: no implementation that it takes by itself is {reference(module)}'s function on this device "
            f"(the last is {last}); impl: can be {', '.join([*others, reference(module)])}"
        ) from error
