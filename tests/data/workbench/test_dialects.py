from pathlib import Path

import numpy as np
import pytest

from whale.common.errors import ConfigError, RefusedError
from whale.data.ingest.statistics import action_statistics
from whale.data.workbench.dialects import DIALECTS, export_statistics, mirrored_gripper
from whale.runtime.embedding.statistics_contract import require_same_statistics, statistics_digest

MASK = [True] * 5 + [False, True]


def statistics(seed=0):
    x = np.random.default_rng(seed).normal(size=(500, 7)).astype(np.float32)
    x[:, 6] = x[:, 6] > 0.5
    return action_statistics([x], MASK, 9)


def flat(content) -> dict:
    """Every value of a file by its last key; the gripper of openpi is mirrored, so its numbers are compared apart."""
    found: dict = {}
    for key, value in content.items():
        found |= flat(value) if isinstance(value, dict) else {key: value}
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_file_holds_every_value_but_what_its_dialect_lost(dialect):
    ours = {"b": statistics(1), "a": statistics(0)}
    files = export_statistics(dialect, ours)
    for name in ours:
        (file,) = [file for file in files if len(files) == 1 or file.startswith(f"{name}/")]
        held = flat(files[file][name] if len(files) == 1 else files[file])
        values = {**ours[name]["action"], **{key: ours[name][key] for key in ("num_transitions", "num_trajectories")}}
        names = {"q01": "p01", "q99": "p99"} if dialect == "octo" else {}
        expected = {names.get(key, key): value for key, value in values.items() if key not in DIALECTS[dialect].lost}
        if dialect in ("openvla", "octo"):
            expected.pop("count")  # it is num_transitions
        assert held.keys() == expected.keys()
        for key in held:
            alike = slice(0, 6) if dialect == "openpi" else slice(None)
            assert np.array_equal(np.atleast_1d(held[key])[alike], np.atleast_1d(expected[key])[alike]), key


def test_the_files_are_those_that_the_others_read():
    ours = {"a": statistics()}
    openvla = export_statistics("openvla", ours)["dataset_statistics.json"]["a"]
    assert set(openvla) == {"action", "num_transitions", "num_trajectories"}
    assert set(openvla["action"]) == {"mean", "std", "min", "max", "q01", "q99", "mask"}
    octo = export_statistics("octo", ours)["dataset_statistics.json"]["a"]["action"]
    assert octo["p99"] == openvla["action"]["q99"] and "q99" not in octo
    openpi = export_statistics("openpi", ours)["a/norm_stats.json"]["norm_stats"]["actions"]
    assert set(openpi) == {"mean", "std", "q01", "q99"}
    assert openpi["mean"][6] == pytest.approx(1 - ours["a"]["action"]["mean"][6])
    lerobot = export_statistics("lerobot", ours)["a/meta/stats.json"]["action"]
    assert lerobot["count"] == [500] and set(lerobot) >= {
        "min",
        "max",
        "mean",
        "std",
        "q01",
        "q10",
        "q50",
        "q90",
        "q99",
    }


def test_a_mirrored_gripper_has_the_statistics_of_one_minus_the_values():
    x = np.random.default_rng(3).uniform(0, 1, (501, 7)).astype(np.float64)
    y = x.copy()
    y[:, 6] = 1.0 - y[:, 6]
    mirrored = mirrored_gripper(action_statistics([x], MASK, 1)["action"])
    expected = action_statistics([y], MASK, 1)["action"]
    for key in ("mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99", "mask"):
        assert np.allclose(mirrored[key], expected[key], atol=1e-12), key


def test_unknown_dialects_are_refused():
    with pytest.raises(ConfigError, match="lerobot"):
        export_statistics("rlbench", {"a": statistics()})


def test_other_statistics_than_the_models_are_refused_and_both_are_printed():
    trained, other = statistics(0), statistics(1)
    require_same_statistics({"a": trained}, "a", statistics(0), Path("m/dataset_statistics.json"))
    with pytest.raises(RefusedError) as caught:
        require_same_statistics({"a": trained}, "a", other, Path("m/dataset_statistics.json"))
    for each in (trained, other):
        assert statistics_digest(each)[:16] in str(caught.value) and str(each["action"]["q01"]) in str(caught.value)
    with pytest.raises(RefusedError, match="not trained on"):
        require_same_statistics({"b": trained}, "a", trained, Path("m"))
