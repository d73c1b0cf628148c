"""A profile asks for fine-tuning everywhere or nowhere."""

import dataclasses
from pathlib import Path

import pytest
import tiny_optimization
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


@pytest.mark.parametrize("wrong", [{"reward": "hat"}, {"role": "finetune", "dataset": "fleet_unseen"}], ids=str)
def test_policies_are_judged_by_a_trained_reward_head_of_their_role(wrong, tmp_path, project_root):
    params = load_yaml(project_root / "profiles/fleet.yaml")
    trials = {"policies": ["still"], "episodes": 4, "horizon": 4, "true_episodes": 2, "seed": 0, "coverage": 0.8}
    trials |= {"uncertainty": "entropy", "resamples": 100}
    entry = {"role": "pretrain", "dataset": "fleet_delta", "model": "full", "reward": "head", "trials": trials}
    good = load_profile(written(tmp_path / "good.yaml", params | {"evaluate_policies": {"arm": entry}}))
    assert good.evaluate_policies["arm"].reward == "head"
    with pytest.raises(ConfigError, match=r"(?s)no such entry of train_reward.*evaluate_policies\.arm\.reward"):
        load_profile(written(tmp_path / "bad.yaml", params | {"evaluate_policies": {"arm": entry | wrong}}))


def test_a_reward_head_has_its_price(project_root):
    profile = load_profile(project_root / "profiles/fleet.yaml")
    estimator = Estimator(profile, dataset_statuses(profile, project_root), 1, 4)
    assert estimator.cost("train_reward", "head").flops > 1e12


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        ("models", ["w32", "w64", "w256"], "no such trained entries"),
        ("models", ["w32", "w64", "w32_tenth", "w64_tenth"], "too few sizes"),
        ("finetuned", ["w32_tenth"], "goes on from its namesake"),
    ],
)
def test_scaling_over_entries_that_are_not_there_or_too_alike_is_refused(place, value, match, tmp_path, project_root):
    params = load_yaml(project_root / "profiles/scaling.yaml")
    entry = params["evaluate_scaling"]["sizes"]
    entry[place] = value
    if place == "models":
        entry["finetuned"] = [name for name in value if name in params["finetune_dynamics"]]
    with pytest.raises(ConfigError, match=match):
        load_profile(written(tmp_path / "params.yaml", params))


@pytest.mark.parametrize("name", ["fleet_unseen", "nobody"])
def test_probes_of_z_are_of_a_dataset_that_a_pretrained_prior_embeds(name, tmp_path, project_root):
    params = load_yaml(project_root / "profiles/hidden-gain.yaml")
    params["evaluate_behavior"] = {name: params["evaluate_behavior"]["fleet_gain"]}
    with pytest.raises(ConfigError, match=rf"(?s)no such dataset of role pretrain.*evaluate_behavior\.{name}"):
        load_profile(written(tmp_path / "params.yaml", params))


def test_video_of_a_model_that_no_entry_trains_is_refused(tmp_path, project_root):
    params = load_yaml(project_root / "profiles/scaling.yaml")
    params["evaluate_video"]["models"] = ["full", "w256"]
    with pytest.raises(ConfigError, match=r"evaluate_video\.models"):
        load_profile(written(tmp_path / "params.yaml", params))


def test_scaling_is_priced_by_the_forward_passes_of_its_models_and_video_by_those_it_names(project_root):
    profile = load_profile(project_root / "profiles/scaling.yaml")
    statuses = dataset_statuses(profile, project_root)
    prices = Estimator(profile, statuses, 1, 4)
    assert 0 < prices.cost("evaluate_scaling", "sizes").flops < prices.cost("train_dynamics", "full").flops
    every = dataclasses.replace(profile, evaluate_video=profile.evaluate_video.model_copy(update={"models": None}))
    assert (
        prices.cost("evaluate_video", None).flops < Estimator(every, statuses, 1, 4).cost("evaluate_video", None).flops
    )


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


def test_video_of_a_role_without_a_trained_model_is_refused_before_the_first_rollout(tmp_path, project_root):
    params = load_yaml(project_root / "profiles/scaling.yaml")
    only_pretrained = next(name for name in params["train_dynamics"] if name not in params["finetune_dynamics"])
    params["evaluate_video"]["models"] = [only_pretrained]
    assert params["evaluate_video"]["finetune_splits"]
    with pytest.raises(ConfigError, match="of role finetune"):
        load_profile(written(tmp_path / "params.yaml", params))


def test_a_policy_is_not_optimized_by_a_reward_head_of_demonstrations(tmp_path, project_root):
    params = load_yaml(project_root / "profiles/fleet.yaml")
    imagination = tiny_optimization.values()["imagination"] | {"penalties": ["none"]}
    params["optimize_policy"] = {"open_bin": tiny_optimization.values(ensemble=[], imagination=imagination)}
    load_profile(written(tmp_path / "params.yaml", params))
    params["train_reward"]["head"]["role"] = "finetune"
    with pytest.raises(ConfigError, match=r"open_bin\.reward"):
        load_profile(written(tmp_path / "params.yaml", params))
