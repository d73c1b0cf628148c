"""Schemas of a rehearsal are checked whole before work begins: every name in them means something, and is heeded.

A worker would stop in the middle with a KeyError, or would leave out what it does not know, in silence.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whale.common.errors import ConfigError, nearest
from whale.sim.rehearsal.errata import ERRATA, WRITES
from whale.sim.rehearsal.motion import Motion, wander
from whale.sim.rehearsal.recording import PICTURES, VIEWS
from whale.sim.rehearsal.schemas import Filling, Schema, leaves
from whale.sim.rehearsal.signals import CONSTANT, FILLER, SIGNALS, columns

FEATURE = re.compile(r"(?P<kind>[a-z]+[0-9]*)(\[(?P<shape>[0-9]*(,[0-9]+)*)\])?(:zlib)?")
TEXTS, CODEPOINTS = ("instruction", "id"), "codepoints"
ORDERS = ("", "bgr")


def require_sound(schemas: Mapping[str, Schema], file: Path) -> None:
    """ConfigError that lists whatever is wrong in `schemas`, which stand in `file`."""
    motion = _motion()
    found = [f"{name}.{text}" for name, schema in schemas.items() for text in _problems(schema, motion)]
    if found:
        raise ConfigError("schemas that no rehearsal can be made of", file=file, found="\n            ".join(found),
                          remedy="correct what is named; whale/sim/rehearsal/signals.py has the signals")  # fmt: skip


def _problems(schema: Schema, motion: Motion) -> Iterator[str]:
    known = set()
    for part, tree in (("steps", schema.all_steps()), ("outside", schema.outside)):
        try:
            for key, feature, fillings in leaves(tree):
                known.add(key)
                for text in _of_leaf(feature, fillings, motion):
                    yield f"{part}.{key}: {text}"
        except ConfigError as error:
            yield f"{part}: {error.what}: {error.found}, expected {error.expected}"
    for erratum in schema.errata:
        if erratum not in ERRATA:
            yield f"errata: no such erratum: {erratum}; {nearest(erratum, ERRATA)}"
        elif erratum in WRITES and not known & WRITES[erratum]:
            yield f"errata: {erratum} has nothing to change here: no {' or '.join(sorted(WRITES[erratum]))}"


def _of_leaf(feature: str, fillings: list[Filling], motion: Motion) -> Iterator[str]:
    match = FEATURE.fullmatch(feature)
    if match is None:
        yield f"not a feature: {feature}"
        return
    kind, sizes = match["kind"], [int(size) for size in (match["shape"] or "").split(",") if size]
    single = fillings[0].signal if len(fillings) == 1 else ""
    if kind in PICTURES:
        yield from _ignored(fillings)
        view, _, order = single.partition("_")
        if single != "black" and (view not in VIEWS or order not in ORDERS):
            yield f"not a view: {single or 'not one'}; {nearest(view, [*VIEWS, 'black'])}"
        if len(sizes) != 3:
            yield f"a picture of {sizes}, expected height, width, 3"
    elif kind == "text":
        yield from _ignored(fillings)
        if single not in TEXTS:
            yield f"not a text: {single or 'not one'}; {nearest(single, TEXTS)}"
    elif single == CODEPOINTS:
        if fillings[0].factor is not None or fillings[0].ahead is not None or [fillings[0].width] != sizes:
            yield f"code points are {CODEPOINTS}N in a feature [N]"
    else:
        yield from _numbers(kind, math.prod(sizes), fillings, motion)


def _numbers(kind: str, size: int, fillings: list[Filling], motion: Motion) -> Iterator[str]:
    try:
        np.dtype(kind)
    except TypeError:
        yield f"not a feature: {kind}"
    width = 0
    for filling in fillings:
        name = filling.signal
        if name in CONSTANT or name == FILLER:
            yield from _ignored([filling], ("factor", "ahead"))
        elif name in SIGNALS:
            yield from _ignored([filling], ("width",))
        else:
            yield f"no such signal: {name}; {nearest(name, [*SIGNALS, *CONSTANT, FILLER])}"
            return
        width += columns(filling, motion).shape[1]
    if width != size:
        yield f"{width} columns of {' '.join(each.signal for each in fillings) or 'nothing'} in a feature of {size}"


def _ignored(fillings: list[Filling], what: tuple[str, ...] = ("factor", "ahead", "width")) -> Iterator[str]:
    for filling in fillings:
        if given := [name for name in what if getattr(filling, name) is not None]:
            yield f"{filling.signal} takes no {' or '.join(given)}"


def _motion() -> Motion:
    """A short one, to count columns by."""
    seeds: list[Any] = [np.random.SeedSequence(0)]
    return wander(seeds, [2], "xyzrpwg", False, np.zeros((1, 2), bool))[0]
