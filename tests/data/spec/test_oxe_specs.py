"""The specs of the 27 datasets of Table 11 against an independent table, and every single-key mutation against both."""

import copy
from pathlib import Path

import numpy as np
import pytest
from oxe_facts import FACTS, GIVEN, Fact, T, raw_episode

from whale.common.config import load_yaml
from whale.common.errors import ConfigError
from whale.data.ingest.canonical.canonical import canonical_episode
from whale.data.spec.episode import RawEpisode, Rejected
from whale.data.spec.spec import DatasetSpec, load_spec

SPECS = Path(__file__).parents[3] / "data_specs"
# Prose for people: nothing follows from it.
PROSE = {("licence", "url"), ("licence", "evidence"), ("expect", "source"), ("robot", "name")}


@pytest.mark.parametrize("name", FACTS)
def test_a_spec_agrees_with_the_independent_table(name):
    assert differences(load_spec(name, SPECS), FACTS[name]) == []


@pytest.mark.parametrize("name", FACTS)
def test_a_spec_is_short(name):
    assert len((SPECS / f"{name}.yaml").read_text().splitlines()) <= 30


@pytest.mark.parametrize("name", FACTS)
def test_every_single_key_mutation_of_a_spec_is_caught(name):
    """Each value changed, each key left out, one at a time: the schema or the table must object."""
    values, spec = load_yaml(SPECS / f"{name}.yaml"), load_spec(name, SPECS)
    unseen = [place for place, mutant in mutants(values) if not is_caught(mutant, spec, FACTS[name])]
    assert not unseen


def test_the_mixture_of_table_11_has_exactly_these_datasets():
    assert set(load_yaml(SPECS.parent / "profiles" / "whale-x.yaml")["mix"]["weights"]) == set(FACTS)
    facts = load_yaml(SPECS / "mixtures" / "oxe.yaml")["datasets"]
    assert {name: row["dataset"] for name, row in facts.items()} == {n: fact.dataset for n, fact in FACTS.items()}


def differences(spec: DatasetSpec, fact: Fact) -> list[str]:
    """Where the spec and the table part, by name."""
    pairs = {
        "name": (FACTS.get(spec.name) is fact, True),
        "source": (
            (spec.source.format, spec.source.dataset, spec.source.version),
            ("rlds", fact.dataset, fact.version),
        ),
        "splits": (spec.source.splits, splits(fact)),
        "robot": ((spec.robot.arms, spec.robot.control_hz), (1, fact.hz)),
        "cameras": (cameras(spec), expected_cameras(fact)),
        "language": (
            (spec.language.key, spec.language.encoding, spec.language.scope, spec.language.kind),
            (fact.language[0], fact.encoding, "step", fact.language[1]),
        ),
        "state": (state(spec), fact.state),
        "state units": ([] if spec.state is None else spec.state.pose.units, state_units(fact)),
        "units": ((spec.action.translation.unit, spec.action.rotation.unit), fact.units),
        "raw gripper": ((spec.action.gripper.raw, spec.action.gripper.unit), (fact.raw_gripper, "one")),
        "contract": (contract(spec), (*fact.contract, fact.limit)),
        "edits": ((tuple(spec.episodes.edits), spec.episodes.min_steps), (fact.edits, 2)),
        "licence": ((spec.licence.spdx, spec.licence.citation), (fact.spdx, fact.citation)),
        "expect": ((spec.expect.episodes, spec.expect.steps), (fact.episodes, fact.steps)),
        "errata": (len({erratum.id for erratum in spec.errata}), len(spec.errata)),
    }
    found = [name for name, (is_, should) in pairs.items() if is_ != should]
    return found + wrong_actions(spec, fact) + wrong_filters(spec, fact)


def wrong_actions(spec: DatasetSpec, fact: Fact) -> list[str]:
    for seed in range(3):
        raw = raw_episode(fact, seed)
        made = canonical_episode(episode(raw, fact), spec, "key", [])
        if isinstance(made, Rejected):
            return [f"rejected: {made.detail}"]
        action, valid = fact.action(raw)
        valid[-1:] &= fact.contract[4] != "undefined" or len(valid) < T
        if made.action.shape != action[: len(made.action)].shape or len(made.action) != expected_steps(fact):
            return ["action shape"]
        agreed = min(len(action), len(made.action))
        # The step before a dropped one is defined; `last_step: undefined` still marks it.
        count = agreed - (fact.contract[4] == "undefined")
        if not np.allclose(made.action[:count], action[:count], atol=1e-6):
            return ["action values"]
        if not (made.action_valid[:count] == valid[:count]).all():
            return ["action_valid"]
    return []


def wrong_filters(spec: DatasetSpec, fact: Fact) -> list[str]:
    """Only kuka filters: by success, a feature of the episode."""
    raw = raw_episode(fact, 0)
    kept = {}
    for success in (True, False):
        made = canonical_episode(episode(raw, fact, success), spec, "key", [])
        kept[success] = not isinstance(made, Rejected)
    wanted = {True: True, False: fact.dataset != "kuka"}
    return [] if kept == wanted and len(spec.episodes.filters) == (fact.dataset == "kuka") else ["filters"]


def episode(raw: dict[str, np.ndarray], fact: Fact, success: bool = True) -> RawEpisode:
    """A raw episode with everything a spec may read: state columns, language, success."""
    rng = np.random.default_rng(9)
    steps: dict[str, object] = {**raw, "is_first": np.arange(T) == 0}
    if fact.state is not None:
        pose, _, stop, form, *gripper = fact.state
        for key, width in ((pose, stop), *([(gripper[0], gripper[2])] if gripper else [])):
            name = f"observation/{key}"
            present = steps.get(name)
            if present is None or present.shape[1] < width:
                values = rng.uniform(0.1, 0.9, (T, width))
                if key == pose and "quat" in form:
                    values[:, stop - 4 : stop] /= np.linalg.norm(values[:, stop - 4 : stop], axis=1, keepdims=True)
                steps[name] = values
    codes = np.array([[ord(letter) for letter in "push"] + [0]] * T)
    steps[fact.language[0]] = codes if fact.encoding == "codepoints_int32" else [b"push"] * T
    return RawEpisode(steps, T, {"success": np.bool_(success)}, "file", 0, 0, "0" * 64)


def expected_steps(fact: Fact) -> int:
    return T - len(fact.edits)


def splits(fact: Fact) -> dict[str, str]:
    return {"train": "train", "val": "val"} if fact.splits == GIVEN else {"train": "train[:95%]", "val": "train[95%:]"}


def cameras(spec: DatasetSpec) -> list[tuple]:
    return sorted(
        (role, each.key.removeprefix("observation/"), *each.hw, each.channels, each.view, each.rotate, each.optional)
        for role, each in spec.cameras.items()
    )


def expected_cameras(fact: Fact) -> list[tuple]:
    views = {"wrist": "wrist", "secondary": fact.view}
    others = [(*other, views[other[0]], 0, True) for other in fact.others]
    return sorted([("primary", *fact.camera, fact.view, 0, False), *others])


def state(spec: DatasetSpec) -> tuple | None:
    if spec.state is None:
        return None
    pose, gripper = spec.state.pose, spec.state.gripper
    measured = (pose.key.removeprefix("observation/"), *pose.slice, pose.form)
    if gripper is None:
        return measured
    return (*measured, gripper.key.removeprefix("observation/"), *gripper.slice, gripper.rises_when)


def state_units(fact: Fact) -> list[str]:
    if fact.state is None:
        return []
    form = fact.state[3]
    return ["m"] if form == "xy" else ["m", "one"] if "quat" in form else ["m", "rad"]


def contract(spec: DatasetSpec) -> tuple:
    c = spec.action.contract
    return (c.frame, c.form, c.live, c.retraceable, c.last_step, None if c.limit is None else tuple(c.limit))


def mutants(values: dict):
    """(place, copy with one value changed or one key gone); prose is left alone."""
    for place in leaves(values):
        if place[:2] in PROSE or place[0] == "errata" or place[-1] == "reason":
            continue
        for change in ("other", "gone"):
            mutant = copy.deepcopy(values)
            *way, last = place
            parent = mutant
            for step in way:
                parent = parent[step]
            if change == "gone":
                del parent[last]
            else:
                parent[last] = other(parent[last])
            yield (*place, change), mutant


def leaves(node, way=()):
    """Places of all scalars and of empty lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if isinstance(value, dict | list) and value:
            yield from leaves(value, (*way, key))
        else:
            yield (*way, key)


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 1
    if value is None:
        return 0.5
    if isinstance(value, list):
        return ["something"]
    swaps = {"rgb": "bgr", "bgr": "rgb", "fixed": "head", "head": "fixed", "wrist": "fixed", "varied": "fixed",
             "absolute": "relative", "relative": "absolute", "none": "absolute", "delta": "velocity",
             "velocity": "delta", "controller": "delta", "base": "world", "unknown": "valid", "m": "mm", "mm": "m",
             "rad": "deg", "deg": "rad", "open": "close", "close": "open", "natural": "templated",
             "templated": "natural", "constant": "natural", "xyz_rpy": "xyz_quat_xyzw", "xyz_quat_xyzw": "xyz_rpy",
             "normalised": "scaled", "scaled": "normalised", "one": "m", "train": "val", "val": "train"}  # fmt: skip
    return swaps.get(value, value + "x")


def is_caught(values: dict, original: DatasetSpec, fact: Fact) -> bool:
    """By the schema or by the table; leaving out what equals a default changes nothing."""
    try:
        spec = DatasetSpec.parse(values, file="mutant.yaml")
    except ConfigError:
        return True
    return spec == original or bool(differences(spec, fact))


def test_the_table_finds_a_planted_error(tmp_path):
    """The check itself is tested: a spec whose gripper is not inverted differs from the table."""
    text = (SPECS / "roboturk.yaml").read_text().replace(", invert]", "]")
    (tmp_path / "roboturk.yaml").write_text(text)
    assert "action values" in differences(load_spec("roboturk", tmp_path), FACTS["roboturk"])
