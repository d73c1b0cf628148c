import numpy as np
import pytest

from whale.common.errors import BadDataError, ConfigError, RefusedError
from whale.data.ingest.statistics import action_statistics
from whale.data.workbench.dialects import DIALECTS, export_statistics, mirrored_gripper, read_dialect
from whale.runtime.embedding.statistics_contract import require_same_statistics, statistics_digest

MASK = [True] * 5 + [False, True]


def statistics(seed=0):
    x = np.random.default_rng(seed).normal(size=(500, 7)).astype(np.float32)
    x[:, 6] = x[:, 6] > 0.5
    return action_statistics([x], MASK, 9)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_dialect_holds_comes_back_and_what_it_lost_is_named(dialect):
    ours = {"b": statistics(1), "a": statistics(0)}
    files = export_statistics(dialect, ours)
    for name in ours:
        file = next(file for file in files if len(files) == 1 or file.startswith(f"{name}/"))
        back = read_dialect(dialect, name, files[file])
        lost = set(DIALECTS[dialect].lost)
        assert set(ours[name]["action"]) - set(back["action"]) == lost & set(ours[name]["action"])
        for key, value in back["action"].items():
            assert np.allclose(value, ours[name]["action"][key], rtol=0, atol=1e-15), key
        assert set(ours[name]) - set(back) == lost & set(ours[name])


def test_the_files_are_those_that_the_others_read():
    ours = {"a": statistics()}
    openvla = export_statistics("openvla", ours)["dataset_statistics.json"]["a"]
    assert set(openvla) == {"action", "num_transitions", "num_trajectories"}
    assert set(openvla["action"]) == {"mean", "std", "min", "max", "q01", "q99", "mask"}
    octo = export_statistics("octo", ours)["dataset_statistics.json"]["a"]["action"]
    assert octo["p99"] == openvla["action"]["q99"] and "q99" not in octo
    openpi = export_statistics("openpi", ours)["a/norm_stats.json"]["norm_stats"]["actions"]
    assert set(openpi) == {"mean", "std", "q01", "q99"}
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


def test_other_content_and_unknown_dialects_are_refused():
    with pytest.raises(BadDataError, match="openvla"):
        read_dialect("openvla", "a", {"b": {}})
    with pytest.raises(ConfigError, match="lerobot"):
        export_statistics("rlbench", {"a": statistics()})


def test_other_statistics_than_the_models_are_refused_and_both_are_printed():
    trained, other = statistics(0), statistics(1)
    require_same_statistics({"a": trained}, {"a": statistics(0)}, file="m/dataset_statistics.json")
    with pytest.raises(RefusedError) as caught:
        require_same_statistics({"a": trained}, {"a": other}, file="m/dataset_statistics.json")
    for each in (trained, other):
        assert statistics_digest(each)[:16] in str(caught.value) and str(each["action"]["q01"]) in str(caught.value)
    with pytest.raises(RefusedError, match="not trained on"):
        require_same_statistics({"b": trained}, {"a": trained}, file="m")
