"""A recurrent model beside ours: the same windows and protocol, leads that are paired differences, what it cost."""

import json

import numpy as np
import pytest
import tiny_models as tiny
import torch
from video_config import video_config

from whale.common.errors import ConfigError
from whale.common.json_files import write_json
from whale.evaluation.measuring.rollouts.fidelity import psnr
from whale.evaluation.numbers.bootstrap import paired_interval
from whale.evaluation.numbers.protocol import require_comparable
from whale.evaluation.uncertainty.estimation.decoding import Decoding
from whale.evaluation.video.perceptual import load_feature_networks
from whale.evaluation.video.recurrent import NO_TOKENS, imagined_by, load_recurrent
from whale.evaluation.video.training_budget import Budget, budget_of_ours
from whale.evaluation.video.video import fit_baselines, lead_rng, rollout_scores
from whale.evaluation.video.video_report import evaluate_split, rollout_windows
from whale.models.trunk.folder import save_model
from whale.models.trunk.linear import linear
from whale.training.loop.counting import training_flops

CONFIG = video_config(context=2, action_episodes=0, decoding=Decoding(mode="sample", temperature=1.0, samples=1))
NETWORKS = load_feature_networks(None, None, None)
NAME = "rssm.dreamer"


@pytest.fixture(scope="module")
def others(models_dir, stack, tmp_path_factory):
    """A folder beside that of the other tests' models, which are read through links."""
    root = tmp_path_factory.mktemp("with_rssm")
    for part in ("tokenizer", "behavior", "dynamics"):
        (root / part).symlink_to(models_dir / part)
    folder = root / "rssm/dreamer"
    folder.mkdir(parents=True)
    save_model(folder, tiny.rssm())
    (folder / "training.json").write_text(json.dumps({"steps": 30, "best": None}))
    (folder / "receipt.json").write_text(json.dumps({"num_draws": 240}))
    return load_recurrent(root, stack, window=4, flops=training_flops)


@pytest.fixture(scope="module")
def result(stack, dataset, others):
    return evaluate_split(stack, dataset, "train", fit_baselines(dataset, 32, CONFIG), NETWORKS, CONFIG, others)


def test_where_none_was_trained_there_is_none_and_nothing_else_changes(stack, dataset, models_dir, result):
    assert load_recurrent(models_dir, stack, window=4, flops=training_flops) == {}
    alone = evaluate_split(stack, dataset, "train", fit_baselines(dataset, 32, CONFIG), NETWORKS, CONFIG)
    others = {key: value for key, value in result.metrics.items() if not key.startswith("rssm.")}
    assert str(alone.metrics) == str(others)
    assert result.arrays.keys() - alone.arrays.keys() == {f"imagined.{NAME}", f"psnr.{NAME}"}


def test_it_stands_under_the_protocol_of_our_rollouts_and_says_what_does_not_apply(result):
    ours, theirs = (result.metrics[f"{name}.rollout.protocol"] for name in ("dynamics.full", NAME))
    require_comparable(ours, theirs)
    assert ours != theirs and theirs.partition("|model=")[2].partition("|")[2].startswith("decoding=sample")
    require_comparable(ours, result.metrics[f"{NAME}.full_lead.protocol"])
    with pytest.raises(ConfigError):
        require_comparable(theirs, result.metrics["dynamics.full.protocol"])
    kinds = [{key.split(".rollout.")[1] for key in result.metrics if key.startswith(f"{name}.rollout.")}
             for name in ("dynamics.full", NAME)]  # fmt: skip
    assert kinds[0] - kinds[1] == {key for key in kinds[0] if "tokenizer" in key} and not kinds[1] - kinds[0]
    assert result.metrics[f"{NAME}.tokens.status"] == NO_TOKENS


def test_the_lead_of_full_is_the_paired_difference_over_the_same_windows(stack, dataset, others, result):
    windows = rollout_windows(dataset, "train", CONFIG)
    theirs = imagined_by(others["dreamer"], NAME, dataset, windows, CONFIG).frames[NAME]
    ours = rollout_scores(stack, dataset, windows, CONFIG).frames["full"]
    assert theirs.shape == ours.shape and theirs.dtype == np.uint8
    for horizon in CONFIG.horizons:
        left, right = (psnr(windows.frames[:, horizon], each[:, horizon - 1]) for each in (ours, theirs))
        expected = paired_interval(left, right, windows.episode, lead_rng(CONFIG), CONFIG.resamples)
        assert expected.as_metrics(f"{NAME}.full_lead.h{horizon}.psnr").items() <= result.metrics.items()
        means = [result.metrics[f"{name}.rollout.h{horizon}.psnr"] for name in ("dynamics.full", NAME)]
        assert means[0] - means[1] == pytest.approx(expected.value)
        assert result.metrics[f"{NAME}.full_lead.h{horizon}.ssim.low"] is not None
        assert f"{NAME}.full_lead.h{horizon}.ee" not in result.metrics  # no state is recorded here


def test_its_budget_is_read_off_its_folder_and_counted_beside_ours(others, stack):
    budget = others["dreamer"].budget
    model = others["dreamer"].model
    assert (budget["steps"], budget["segments"]) == (30, 240)
    assert budget["parameters"] == sum(each.numel() for each in model.parameters())
    batch = tiny.pixel_batch(size=1)
    assert budget["flops"] == 240 * training_flops(model, batch)
    parts = (stack.tokenizer, stack.behavior, stack.dynamics["full"])
    assert budget["full_parameters"] == sum(each.numel() for part in parts for each in part.parameters())
    assert budget["full_flops"] == 0  # these models come without a record of their training


def test_the_budget_of_ours_is_read_off_the_folders_of_all_three_parts(stack, tmp_path):
    parts = {"tokenizer": stack.tokenizer, "behavior": stack.behavior, "dynamics/full": stack.dynamics["full"]}
    for name in parts:
        (tmp_path / name).mkdir(parents=True)
    alone = []
    for number, name in enumerate(parts, 1):
        write_json(tmp_path / name / "training.json", {"steps": number})
        write_json(tmp_path / name / "receipt.json", {"num_draws": 10 * number})
        alone.append(budget_of_ours(tmp_path, stack, "full", tiny.WINDOW, training_flops).flops)
    found = budget_of_ours(tmp_path, stack, "full", tiny.WINDOW, training_flops)
    assert (found.steps, found.segments) == (1 + 2 + 3, 10 + 20 + 30)
    first, second, third = alone[0], alone[1] - alone[0], alone[2] - alone[1]
    assert first == 10 * training_flops(stack.tokenizer, tiny.pixel_batch(size=1)) and min(second, third) > 0


def test_budgets_of_models_that_act_together_add_up():
    assert Budget.total([Budget(1, 2, 3, 4.0), Budget(10, 20, 30, 40.0)]) == Budget(11, 22, 33, 44.0)


@pytest.mark.parametrize("rows", [2, 512])
def test_every_product_is_counted_whichever_kernel_does_it(rows):
    """512 rows of 256 by 128 are enough for the kernel that torch's counter does not know."""

    class Product(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = linear(256, 128)

        def forward(self, batch):
            return self.layer(batch["x"])

    assert training_flops(Product(), {"x": torch.ones(rows, 256)}) == 3 * 2 * rows * 256 * 128
