"""A profile asks for fine-tuning everywhere or nowhere."""

from pathlib import Path

import pytest
import yaml
from without_finetuning import PLACES, put, without_finetuning

from whale.common.config import load_yaml
from whale.common.errors import ConfigError
from whale.pipeline_file import expand
from whale.planning.datasets import dataset_statuses
from whale.planning.estimate import Estimator
from whale.planning.profile import load_profile


def written(path: Path, params: dict) -> Path:
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return path


def test_without_fine_tuning_no_stage_tunes_and_every_other_stage_has_its_price(tmp_path, project_root):
    params = without_finetuning(load_yaml(project_root / "params.yaml"))
    profile = load_profile(written(tmp_path / "params.yaml", params))
    nodes = expand(load_yaml(project_root / "dvc.yaml"), params)
    assert {"evaluate_video", "evaluate_uncertainty", "report"} <= {node.stage for node in nodes}
    assert not [node.name for node in nodes if node.stage.startswith("finetune")]
    estimator = Estimator(profile, dataset_statuses(profile, project_root), 1, 4)
    costs = {node.stage: estimator.cost(node.stage, node.item) for node in nodes}
    assert costs["evaluate_video"].flops > 0 and costs["evaluate_uncertainty"].flops > 0


@pytest.mark.parametrize("place", PLACES)
def test_half_of_a_fine_tuning_is_refused_with_its_place(place, tmp_path, project_root):
    whole = load_yaml(project_root / "params.yaml")
    section, _, key = place.partition(".")
    kept = whole[section][key] if key else whole[section]
    put(whole, place, [] if place.endswith("splits") else {})
    with pytest.raises(ConfigError, match=place):
        load_profile(written(tmp_path / "less.yaml", whole))
    rest = without_finetuning(load_yaml(project_root / "params.yaml"))
    put(rest, place, kept)
    with pytest.raises(ConfigError, match=place):
        load_profile(written(tmp_path / "more.yaml", rest))


@pytest.mark.parametrize("section", ["finetune_tokenizer", "finetune_behavior", "finetune_embed"])
def test_two_entries_would_make_one_folder_and_are_refused(section, tmp_path, project_root):
    params = load_yaml(project_root / "params.yaml")
    params[section]["other"] = params[section]["robot"]
    with pytest.raises(ConfigError, match=section):
        load_profile(written(tmp_path / "params.yaml", params))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("optimize_policy.plate-slide.dataset", "bridge", "plate-slide.dataset"),
        ("optimize_policy.plate-slide.model", "small", "plate-slide.model"),
        ("optimize_policy.plate-slide.ensemble", ["member_9"], "plate-slide.model"),
        ("optimize_policy.plate-slide.reward", "heart", "plate-slide.reward"),
        ("optimize_policy.plate-slide.task", "hammer", "the simulator is not the one"),
        ("optimize_policy.plate-slide.arena.camera", "corner", "the simulator is not the one"),
        ("optimize_policy.plate-slide.imagination.context", 9, "more given frames than a window holds"),
    ],
)
def test_a_policy_is_optimized_with_what_is_trained_and_tried_where_it_was_recorded(
    place, value, words, tmp_path, project_root
):
    params = load_yaml(project_root / "profiles/metaworld-small.yaml")
    load_profile(written(tmp_path / "whole.yaml", params))
    put(params, place, value)
    with pytest.raises(ConfigError, match=words):
        load_profile(written(tmp_path / "params.yaml", params))
