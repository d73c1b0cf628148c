"""Ours beside the baseline: found by name, marked when worse, counted, and said in a sentence."""

import re

import pytest

from whale.reporting.comparisons import BETTER, METHOD, RULES, UNCLEAR, WORSE, compare, splits_of, unjudged, verdict

SPLIT = "evaluate_video.pretrain.fleet_delta.test"
ROLLOUT = f"{SPLIT}.dynamics.full.rollout.h16"


def outcomes(**metrics):
    """{label: outcome} of the numbers of one split; `__` stands for a dot."""
    found = {f"{SPLIT}.{name.replace('__', '.')}": value for name, value in metrics.items()}
    return {row.label: row.cells["pretrain.fleet_delta.test"].outcome for row in compare(found)}


def test_a_still_image_that_is_better_is_said_at_any_horizon_and_stands_first():
    found = {f"{ROLLOUT}.psnr": 23.0, f"{ROLLOUT}.psnr_copy_last": 22.0}
    found |= {f"{ROLLOUT}.ssim": 0.70, f"{ROLLOUT}.ssim_copy_last": 0.75}
    rows = compare(found)
    assert [(row.label, row.count(WORSE)) for row in rows] == [
        ("rollout SSIM, 16 steps", 1),
        ("rollout PSNR, 16 steps (dB)", 0),
    ]
    counted, said = verdict(rows)
    assert counted.startswith("1 of 2 comparisons are worse than their baseline")
    assert "Works on every dataset: rollout PSNR." in said and "rollout SSIM (0 of 1)" in said


def test_lower_is_better_for_likelihoods_only():
    assert outcomes(dynamics__full__nll=1.0, dynamics__full__nll_copy_unigram=2.0) == {"token NLL (nats)": BETTER}
    assert outcomes(dynamics__full__nll=2.0, dynamics__full__nll_copy_unigram=1.0) == {"token NLL (nats)": WORSE}
    assert outcomes(policy__nll_lagged_prior=2.0, policy__nll_other_episode=1.0) == {"policy NLL (nats)": WORSE}
    assert outcomes(z__nll_gain=0.5) == {"token NLL without z minus with (nats)": BETTER}


@pytest.mark.parametrize(("low", "high", "outcome"), [(-0.1, 0.3, UNCLEAR), (0.1, 0.3, BETTER), (-0.3, -0.1, WORSE)])
def test_an_interval_that_holds_the_baseline_decides_nothing(low, high, outcome):
    gap = "dynamics__full__actions__dyaw__changed_nll_gap"
    numbers = {gap: (low + high) / 2, f"{gap}__low": low, f"{gap}__high": high}
    assert outcomes(**numbers) == {"NLL rise, dyaw zeroed (nats)": outcome}


def test_the_interval_of_a_pair_is_that_of_the_difference():
    numbers = {f"{ROLLOUT}.psnr": 23.0, f"{ROLLOUT}.psnr.low": 21.0, f"{ROLLOUT}.psnr.high": 25.0}
    numbers |= {f"{ROLLOUT}.psnr_copy_last": 22.5}
    difference = f"{ROLLOUT}.psnr_above_copy_last"
    (row,) = compare(numbers | {f"{difference}.low": 0.2, f"{difference}.high": 0.8})
    assert row.count(BETTER) == 1
    (row,) = compare(numbers | {f"{difference}.low": -0.2, f"{difference}.high": 0.8})
    assert row.count(UNCLEAR) == 1


def test_where_no_difference_was_measured_the_interval_of_ours_decides():
    numbers = {f"{ROLLOUT}.psnr": 23.0, f"{ROLLOUT.replace('full', 'from_scratch')}.psnr": 22.5}
    for low, outcome in ((22.4, UNCLEAR), (22.6, BETTER)):
        (row,) = compare(numbers | {f"{ROLLOUT}.psnr.low": low, f"{ROLLOUT}.psnr.high": 24.0})
        assert (row.against, row.count(outcome)) == ("trained from scratch", 1)


def test_one_metric_has_several_baselines_and_each_is_counted():
    numbers = {f"{ROLLOUT}.psnr": 23.0, f"{ROLLOUT}.psnr_copy_last": 22.0}
    numbers |= {f"{ROLLOUT.replace('full', 'without_z')}.psnr": 23.1}
    rows = compare(numbers)
    assert [(row.against, row.count(WORSE)) for row in rows] == [("last frame copied", 0), ("without z", 1)]


def test_a_baseline_that_no_rule_knows_is_shown_by_its_name():
    assert outcomes(new__thing=1.0, new__thing_copy_last=2.0) == {"new.thing": WORSE}
    assert outcomes(new__lpips=1.0, new__lpips_copy_last=2.0) == {"new.lpips": BETTER}


def test_percep_efflite0_is_better_where_it_is_lower_and_never_called_lpips():
    numbers = {"dynamics__full__rollout__h16__percep_efflite0": 0.2}
    numbers["dynamics__full__rollout__h16__percep_efflite0_copy_last"] = 0.5
    assert outcomes(**numbers) == {"percep-efflite0, 16 steps": BETTER}
    numbers |= {f"dynamics__full__rollout__h16__percep_efflite0_below_copy_last__{end}": value
                for end, value in (("low", -0.1), ("high", 0.7))}  # fmt: skip
    assert outcomes(**numbers) == {"percep-efflite0, 16 steps": UNCLEAR}


def test_what_was_not_measured_is_no_comparison():
    assert outcomes(tokenizer__psnr=28.0, tokenizer__psnr_mean_image=None) == {}
    assert outcomes(tokenizer__psnr=28.0) == {} and outcomes(tokenizer__protocol="metric=x") == {}


def test_a_model_of_another_family_is_what_ours_must_beat_and_no_model_of_ours():
    """How it fares against a still image is no comparison of ours; by how much ours leads is one."""
    own = {"rssm__dreamer__rollout__h4__psnr": 20.0, "rssm__dreamer__rollout__h4__psnr_copy_last": 22.0}
    lead = {"rssm__dreamer__full_lead__h4__psnr": -1.0, "rssm__dreamer__full_lead__h4__psnr.low": -2.0}
    found = outcomes(**own, **lead, **{"rssm__dreamer__full_lead__h4__psnr.high": -0.5})
    assert found == {"rollout PSNR lead, 4 steps (dB), dreamer": WORSE}


def test_every_rule_can_be_met():
    """A pattern and its templates have the same groups; what a rule compares is shown once."""
    words = {r"(?P<model>\w+)": "small", r"(?P<h>\d+)": "4", METHOD: "entropy", r"\.": "."}
    words |= {"(?P<which>permuted|negated|zeroed)": "negated", r"(?P<which>(?!permuted|negated|zeroed)\w+)": "dx"}
    words |= {"(?P<kind>pearson|spearman)": "pearson", r"(?P<k>\d+)": "5"}
    for rule in RULES:
        metric = rule.metric
        for pattern, word in words.items():
            metric = metric.replace(pattern, word)
        groups = re.fullmatch(rule.metric, metric).groupdict()
        found = {f"{SPLIT}.{metric}": 1.0}
        if isinstance(rule.baseline, str):
            found[f"{SPLIT}.{rule.baseline.format(**groups)}"] = 2.0
        label = rule.label.format(**groups)
        (row,) = [row for row in compare(found, every=True) if row.against == rule.against and label in row.label]
        assert row.topic == rule.topic and row.label.startswith(label)
        assert ("small" in row.label) == ("model" in groups)


def test_columns_are_splits_and_pre_training_comes_first():
    names = ["finetune.a.test", "pretrain.b.test"]
    found = {f"evaluate_video.{name}.z.nll_gain": 1.0 for name in names}
    assert splits_of(compare(found)) == ["pretrain.b.test", "finetune.a.test"]


def test_values_stand_beside_guesses_and_a_smaller_gap_and_regret_are_better():
    at = "evaluate_values.pretrain.metaworld.test.mean"
    found = {"full.h64.value_gap": 20.0, "full.h64.value_gap.low": 15.0, "full.h64.value_gap.high": 25.0}
    found |= {"guess.h64.value_gap": 30.0, "guess.h64.regret_at_5": 10.0, "full.h64.regret_at_5": 12.0}
    found |= {"full.h64.spearman": 0.4, "full.h64.spearman.low": 0.05, "full.h64.spearman.high": 0.6}
    found = {f"{at}.{name}": value for name, value in (found | {"first_frame.h64.spearman": 0.1}).items()}
    rows = {row.label: row.cells["pretrain.metaworld.test"].outcome for row in compare(found)}
    assert rows == {
        "value gap, 64 steps": BETTER,
        "regret@5, 64 steps": WORSE,
        "return correlation (spearman), 64 steps": UNCLEAR,
    }


def test_below_a_constant_is_better_where_less_is_and_these_stand_first():
    assert outcomes(dynamics__full__rollout__h8__ee=0.4) == {"end-effector error, 8 steps": BETTER}
    assert outcomes(dynamics__full__rollout__h8__ee=1.2) == {"end-effector error, 8 steps": WORSE}
    flicker = {"tokenizer__flicker": 0.03, "tokenizer__flicker__low": 0.01, "tokenizer__flicker__high": 0.05}
    assert outcomes(**flicker) == {"still patches whose token changes": UNCLEAR}
    found = {f"{SPLIT}.dynamics.full.shuffled_action_gap": -1.0, f"{SPLIT}.dynamics.full.nll_gap": 0.0}
    assert [row.topic for row in compare(found)] == ["train/test gap", "following actions"]


def test_a_probe_that_cannot_judge_is_said_and_compared_with_nothing():
    found = {f"{ROLLOUT}.ee_unjudged": 0.5}
    assert compare(found) == [] and unjudged(found) == [
        "End-effector error not judged, the probe is too weak: fleet_delta (h16)."
    ]
    assert unjudged({f"{ROLLOUT}.ee": 0.5}) == []
