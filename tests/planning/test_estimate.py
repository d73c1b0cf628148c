"""Costs of stages: closed forms, counts of built networks."""

import dataclasses

import pytest

from whale.evaluation.measuring.feature_networks import NetworkFile
from whale.planning import flops, scoring
from whale.planning.datasets import DatasetStatus, jpeg_bytes
from whale.planning.estimate import Estimator
from whale.planning.hardware import parse_hardware
from whale.planning.plan import _hours
from whale.planning.profile import load_profile

ALL_STEPS = 57_432_971  # of the 27 datasets


@pytest.fixture(scope="module")
def whale_x(project_root):
    return load_profile(project_root / "profiles" / "whale-x.yaml")


@pytest.fixture(scope="module")
def estimator(whale_x):
    status = DatasetStatus("all", "pretrain", ALL_STEPS, "test", ())
    unknown = DatasetStatus("unknown", "pretrain", None, "unknown", ())
    return Estimator(whale_x, {"all": status, "unknown": unknown}, workers=8, bytes_per_value=2)


def test_tokens_of_all_datasets_take_62_gigabytes_and_z_nearly_as_much(estimator):
    assert estimator.cost("pretokenize", "all").disk == pytest.approx(62.5e9, rel=0.001)
    assert estimator.cost("embed_behavior", "all").disk == ALL_STEPS * 2 * 512


def test_checkpoints_are_four_bytes_of_each_parameter_of_the_built_network(estimator):
    assert estimator.cost("train_dynamics", "full").disk == 4 * 203_771_904
    assert estimator.cost("train_tokenizer", None).disk == 4 * 194_321_696


def test_a_dynamics_run_takes_its_steps_times_the_flops_of_one(estimator):
    assert estimator.cost("train_dynamics", "full").flops == pytest.approx(300_000 * 330.5e12, rel=0.002)
    assert estimator.cost("finetune_dynamics", "from_scratch").flops == pytest.approx(10_000 * 330.5e12, rel=0.002)
    assert estimator.cost("train_dynamics", "untrained").flops == 0


def test_a_recurrent_model_costs_its_frames_and_no_more_where_there_is_none(project_root):
    small = load_profile(project_root / "profiles" / "metaworld-small.yaml")
    cost = Estimator(small, {}, workers=1, bytes_per_value=4).cost("train_rssm", "dreamer")
    entry = small.train_rssm["dreamer"]
    assert cost.disk == 4 * 1_729_507
    assert cost.flops == 3 * flops.rssm(entry.model) * 9 * 8 * entry.optimization.training_steps


def test_the_tokenizer_trains_on_one_frame_more_than_a_window(estimator):
    assert estimator.cost("train_tokenizer", None).flops == pytest.approx(300_000 * 316.7e12 * 17 / 16, rel=0.001)


def test_a_frozen_encoder_saves_two_thirds_of_its_work(estimator, whale_x):
    thawed = {"robot": whale_x.finetune_tokenizer["robot"].model_copy(update={"freeze": []})}
    free = Estimator(dataclasses.replace(whale_x, finetune_tokenizer=thawed), {}, 8, 2).cost(
        "finetune_tokenizer", "robot"
    )
    frozen = estimator.cost("finetune_tokenizer", "robot")
    assert 1 - frozen.flops / free.flops == pytest.approx(2 / 3 * 13.94 / (13.94 + 89.15), rel=0.01)


def test_more_workers_need_less_memory_each_but_never_less_than_their_weights(estimator, whale_x):
    one, many = (Estimator(whale_x, {}, workers, 2).cost("train_dynamics", "full").memory for workers in (1, 64))
    assert one > estimator.cost("train_dynamics", "full").memory > many > 16 * 203_771_904


def test_what_is_unknown_is_not_guessed(estimator):
    assert estimator.cost("pretokenize", "unknown").flops is None
    assert estimator.cost("ingest", "unknown").disk is None
    assert estimator.cost("mix", None).flops is None


def test_frames_have_the_two_measured_sizes():
    assert (jpeg_bytes(256), jpeg_bytes(64)) == pytest.approx((22_100, 2_780), rel=0.01)


def test_a_rollout_takes_every_frame_once_and_half_a_window_again_at_each_restart(estimator):
    """16 steps of 1..16 frames; then 9 of 8..16."""
    per_frame = estimator._rollout("full", 1, 1)
    assert estimator._rollout("full", 1, 16) == pytest.approx(per_frame * 16)
    assert estimator._rollout("full", 1, 25) == pytest.approx(per_frame * (25 + 7))


@pytest.fixture(scope="module")
def small(project_root):
    return load_profile(project_root / "profiles" / "metaworld-small.yaml")


def seconds(profile, stage, item=None, hardware="cpu", **changes):
    """Of a stage whose section has these changes, on two cores."""
    section = getattr(profile, stage)
    changed = dataclasses.replace(profile, **{stage: section.model_copy(update=changes)}) if changes else profile
    statuses = {name: DatasetStatus(name, entry.role, 30_000, "test", ()) for name, entry in profile.datasets.items()}
    return _hours(Estimator(changed, statuses, 2, 4).cost(stage, item), parse_hardware(hardware)) * 3600


@pytest.mark.parametrize(
    ("name", "stage", "measured"),
    [("demo", "evaluate_video", 108), ("demo", "evaluate_uncertainty", 93),
     ("metaworld-small", "evaluate_video", 250), ("metaworld-small", "evaluate_uncertainty", 108)],
)  # fmt: skip
def test_an_evaluation_is_priced_within_a_factor_of_two_of_what_it_took(project_root, name, stage, measured):
    assert measured / 2 < seconds(load_profile(project_root / "profiles" / f"{name}.yaml"), stage) < measured * 2


def test_every_drawing_of_shuffled_labels_is_priced(small):
    """79 s were measured with one."""
    assert 79 * 1.5 < seconds(small, "evaluate_behavior", "metaworld") < 79 * 3


def test_a_probe_of_few_frames_is_fitted_in_few_steps():
    assert scoring.probe_seconds(64, None) == scoring.probe_seconds(64, 20_000) > 3 * scoring.probe_seconds(64, 1000)
    assert scoring.probe_seconds(256, None) == scoring.probe_seconds(64, None) == 4 * scoring.probe_seconds(32, None)


def test_a_longer_horizon_costs_its_rollouts_and_each_of_the_list_its_scores(small):
    near, middle, far = (seconds(small, "evaluate_video", horizons=[each]) for each in (8, 32, 64))
    assert far - middle > middle - near > 0
    both, all_four = (seconds(small, "evaluate_video", horizons=each) for each in ([8, 32], [8, 16, 24, 32]))
    assert both > middle and all_four - both == pytest.approx(2 * (both - middle))


def test_resamples_are_priced_in_every_stage_that_draws_them(small):
    for stage in ("evaluate_video", "evaluate_uncertainty"):
        few, more, most = (seconds(small, stage, resamples=each) for each in (500, 1000, 2000))
        assert few < more and most - more == pytest.approx(2 * (more - few))


def test_feature_networks_cost_where_their_weights_are_given(small):
    given = NetworkFile(path="vgg.safetensors", sha256="0" * 64)
    free, lpips, efflite0 = (
        seconds(small, "evaluate_video", **each) for each in ({}, {"lpips": given}, {"percep_efflite0": "weights"})
    )
    shown = 60 * 64 * 5  # windows, steps, models: four of ours and one of another family
    assert lpips - free == pytest.approx(2 * shown * 64**2 * scoring.VGG16 / (2 * 33e9))
    assert efflite0 - free == pytest.approx(4 * shown * scoring.EFFLITE0 / (2 * 33e9))


def test_scores_take_one_core_also_beside_a_gpu(small):
    on_cores, on_gpu = (seconds(small, "evaluate_video", hardware=each) for each in ("cpu", "1x H200"))
    assert on_gpu > scoring.probe_seconds(64, None) and on_cores > on_gpu


def test_a_prior_with_memory_trains_on_its_history_and_walks_every_episode_twice(estimator, whale_x):
    behavior = whale_x.train_behavior
    longer = behavior.model_copy(update={"model": behavior.model.model_copy(update={"memory": 64})})
    remembering = Estimator(dataclasses.replace(whale_x, train_behavior=longer), estimator.datasets, 8, 2)
    per_token = flops.behavior(longer.model, 64) / flops.behavior(longer.model, 16)
    trained = [each.cost("train_behavior", None).flops for each in (remembering, estimator)]
    assert per_token > 1 and trained[0] / trained[1] == pytest.approx(4 * per_token)
    stored = [each.cost("embed_behavior", "all") for each in (remembering, estimator)]
    assert stored[0].disk == stored[1].disk and stored[0].flops > stored[1].flops
