"""Closed loops: the same starts for all, imagined and true episodes that match, values one can recompute."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_world
from openpi_loopback import policy_server

import whale
from whale.common.errors import BadDataError, ConfigError, RefusedError, WorkerLostError
from whale.evaluation.numbers.protocol import require_comparable
from whale.policies.protocol import Beginning, Contender, from_callable
from whale.trials import evaluate
from whale.trials.contenders import contender_of, contenders_of
from whale.trials.episodes.closed_loop import imagine_policy
from whale.trials.episodes.true_values import Form, fleet_beginnings, fleet_judge, simulate_policy
from whale.trials.evaluate import TrialConfig, run_trials, truncated, weighted
from whale.trials.report import TOO_WEAK, UNJUDGED, trial_metrics, trial_protocol
from whale.worlds.contract import ActionWarning
from whale.worlds.trust import TrustLimit

FORM, COUNT, HORIZON = Form(16, 95), 6, 5
INSTRUCTION = tiny_world.INSTRUCTIONS[0]
NAMES = ["expert", "random", "other_task", "still", "behavior"]
LIMIT = TrustLimit("entropy", (2.0,), 0.3, 0.8, 0.1, 0.2, "here")


def config(**changes) -> TrialConfig:
    values = {"policies": NAMES, "episodes": COUNT, "horizon": HORIZON, "true_episodes": 3, "uncertainty": "entropy"}
    return TrialConfig(**(values | {"coverage": 0.8, "seed": 0, "resamples": 100} | changes))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with tiny_models.one_thread():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return whale.load(tiny_world.write_bundle(tmp_path_factory.mktemp("world")), checking="off")


@pytest.fixture(scope="module")
def beginnings():
    return fleet_beginnings("fleet_delta", COUNT, 0, FORM)


@pytest.fixture(scope="module")
def judge(world):
    return fleet_judge(HORIZON, world.contract, FORM)


@pytest.fixture(scope="module")
def trials(world, beginnings, judge, tmp_path_factory):
    return run_trials(world, contenders_of(NAMES, world), beginnings, config(), judge, tmp_path_factory.mktemp("work"))


def test_a_scripted_policy_does_the_same_in_imagination_as_in_truth_and_what_it_did_is_imagined(
    world, beginnings, judge
):
    expert = contender_of("expert", world)
    played = imagine_policy(world, expert, beginnings, HORIZON, "entropy")
    assert np.array_equal(played.actions, judge(expert, beginnings).actions)
    frames = np.stack([each.image for each in beginnings])[:, None]
    expected = world.imagine(frames, played.actions, uncertainty="entropy")
    assert np.array_equal(played.frames, expected.frames)
    assert np.array_equal(played.uncertainty, expected.uncertainty)


def test_starts_and_true_values_are_a_function_of_their_seed_and_unlike_those_of_another(world, beginnings, judge):
    again = fleet_beginnings("fleet_delta", COUNT, 0, FORM)
    other = fleet_beginnings("fleet_delta", COUNT, 1, FORM)
    assert all(np.array_equal(a.image, b.image) and a.seed == b.seed for a, b in zip(again, beginnings, strict=True))
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(other, beginnings, strict=True))
    noisy = contender_of("noisy_high", world)
    assert np.array_equal(judge(noisy, beginnings).rewards, judge(noisy, again).rewards)


def test_true_values_order_the_policies_as_their_names_promise(world):
    starts = fleet_beginnings("fleet_delta", 6, 0, FORM)

    def value(name):
        return simulate_policy(contender_of(name, world), starts, 22, world.contract, FORM).rewards[:, -1].mean()

    expert, noisy, still = value("expert"), value("noisy_high"), value("still")
    assert expert > noisy > still and expert > 0.8 > 0.2 > still


def test_the_behavior_models_policy_sees_what_is_imagined_and_acts_within_the_contract(world, beginnings):
    mean = imagine_policy(world, contender_of("behavior", world), beginnings, HORIZON, None)
    drawn = imagine_policy(world, contender_of("behavior_sampled", world), beginnings, HORIZON, None)
    low, high = world.contract.bounds
    assert (mean.actions >= low - 1e-6).all() and (mean.actions <= high + 1e-6).all()
    assert set(np.unique(mean.actions[..., 6])) <= {0.0, 1.0} and not np.array_equal(mean.actions, drawn.actions)
    again = imagine_policy(world, contender_of("behavior_sampled", world), beginnings, HORIZON, None)
    assert np.array_equal(drawn.actions, again.actions)
    changed = [beginnings[0].__class__(**(vars(each) | {"image": 255 - each.image})) for each in beginnings]
    assert not np.array_equal(
        mean.actions, imagine_policy(world, contender_of("behavior", world), changed, 5, None).actions
    )


def test_a_chunk_is_carried_out_before_the_policy_is_asked_again(world, beginnings):
    asked = []

    def chunk(observation):
        asked.append((observation.step, observation.instruction))
        return np.repeat([[0.01 * observation.step, 0, 0, 0, 0, 0, 1]], 3, axis=0)

    played = imagine_policy(world, from_callable("mine", chunk), beginnings[:2], 5, None)
    assert [step for step, _ in asked] == [0, 0, 3, 3] and asked[0][1] == beginnings[0].instruction
    assert played.actions[0, :, 0].tolist() == pytest.approx([0, 0, 0, 0.03, 0.03])


def test_a_policy_of_another_rate_layout_or_dimension_is_refused_before_anything_is_imagined(world, beginnings):
    still = contender_of("still", world)
    for said, match in (({"control_hz": 15.0}, "rate"), ({"action_dimensions": ("y", "x")}, "order of action")):
        with pytest.raises(RefusedError, match=match):
            imagine_policy(world, Contender(**(vars(still) | said)), beginnings, 2, None)
    with pytest.raises(RefusedError, match=r"(?s)dimensions.*place:\s+mine"):
        imagine_policy(world, from_callable("mine", lambda _: np.zeros(8)), beginnings, 2, None)
    with pytest.raises(BadDataError, match="not a chunk"):
        imagine_policy(world, from_callable("mine", lambda _: np.zeros((0, 7))), beginnings, 2, None)


def test_a_policys_first_actions_are_looked_at_beside_recorded_ones(world, tmp_path):
    watchful = whale.load(tiny_world.write_bundle(tmp_path))
    recorded = tiny_world.recorded_actions(24, 5)
    image = world.starts[0].frames[0]
    starts = [Beginning(n, n, image, INSTRUCTION, recorded=action) for n, action in enumerate(recorded)]

    def playing(change):
        def begin(_):
            return _Replay(np.asarray(change(recorded)))

        return imagine_policy(watchful, Contender("mine", begin), starts, 2, None)

    playing(lambda actions: actions)
    with pytest.warns(ActionWarning, match="(?s)mine.*gripper looks inverted"):
        playing(lambda actions: actions * [1, 1, 1, 1, 1, 1, -1] + [0, 0, 0, 0, 0, 0, 1])
    with pytest.warns(ActionWarning, match="axes look exchanged"):
        playing(lambda actions: actions[:, [1, 2, 0, 3, 4, 5, 6]])
    with pytest.raises(RefusedError, match="times too small"):
        playing(lambda actions: actions * ([1 / 55] * 6 + [1]))


class _Replay:
    """Does at each start what it was given for it."""

    def __init__(self, actions):
        self.actions = actions

    def act(self, observations, rows):
        return [self.actions[row][None] for row in rows]


def test_values_are_means_of_rewards_and_the_head_on_the_first_frame_is_the_floor(world, trials):
    found = {trial.name: trial for trial in trials}
    metrics = trial_metrics(world, trials, config(), LIMIT)
    for name in NAMES:
        assert metrics[f"policy.{name}.true"] == pytest.approx(found[name].rewards["true"].mean())
        assert metrics[f"policy.{name}.imagined"] == pytest.approx(found[name].rewards["imagined"].mean())
        assert metrics[f"policy.{name}.imagined_final"] == pytest.approx(found[name].rewards["imagined"][:, -1].mean())
    assert (found["still"].rewards["true"] == 0).all() and metrics["reward_head.r2.recorded"] == 0.5
    assert metrics["across.true_frames.gap"] >= 0


def test_the_floor_shows_the_head_the_first_frame_and_the_policys_actions(world, beginnings, trials):
    first = np.stack([each.image for each in beginnings])
    texts = [each.instruction for each in beginnings]
    for trial in trials:
        expected = world.rewards(np.repeat(first[:, None], HORIZON + 1, axis=1), trial.actions, texts)
        assert np.array_equal(trial.rewards["still"], expected)


def test_an_untrained_world_is_called_too_weak_and_one_without_a_truth_is_not_called_measured(world, trials):
    for guess in (np.full((COUNT, HORIZON), 0.9), np.random.default_rng(0).random((COUNT, HORIZON))):
        blind = [
            trial.__class__(**(vars(trial) | {"rewards": trial.rewards | {"imagined": guess}})) for trial in trials
        ]
        metrics = trial_metrics(world, blind, config(), LIMIT)
        assert metrics["r2.imagined.low"] <= 0 and metrics["status"] == TOO_WEAK
    unjudged = [trial.__class__(trial.name, {"imagined": trial.rewards["imagined"]}, trial.actions, trial.uncertainty)
                for trial in trials]  # fmt: skip
    alone = trial_metrics(world, unjudged, config(), LIMIT)
    assert alone["status"] == UNJUDGED and not [key for key in alone if ".true" in key or key.startswith("across")]


def test_a_world_that_imagines_the_truth_is_measured_as_perfect(world, trials):
    rewards = [trial.rewards | {"imagined": trial.rewards["true"]} for trial in trials]
    perfect = [
        trial.__class__(**(vars(trial) | {"rewards": each})) for trial, each in zip(trials, rewards, strict=True)
    ]
    metrics = trial_metrics(world, perfect, config(), None)
    assert metrics["across.imagined.spearman"] == metrics["across.imagined.pearson"] == pytest.approx(1)
    assert (
        metrics["across.imagined.mmrv"] == metrics["across.imagined.gap"] == metrics["across.imagined.regret_at_1"] == 0
    )
    assert metrics["r2.imagined"] == 1 and metrics["status"] == "measured"


def test_beyond_the_limit_the_reward_stays_what_it_was():
    rewards = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    doubts = np.array([[np.nan, 1.0, 9, 1], [np.nan, 1, 1, 1], [9, 1, 1, 1]])
    assert truncated(rewards, doubts, LIMIT).tolist() == [[1, 2, 2, 2], [1, 2, 3, 4], [1, 1, 1, 1]]
    assert truncated(rewards, None, LIMIT) is rewards and truncated(rewards, doubts, None) is rewards
    equal = weighted(rewards, np.full_like(rewards, 3.0), LIMIT)
    assert equal == pytest.approx([2.5] * 3) and weighted(rewards, doubts, LIMIT)[0] < 2.5


def test_what_was_done_is_not_done_again_and_a_dying_server_loses_nothing(world, beginnings, tmp_path):
    calls, alive = [], [7]

    def infer(observation):
        calls.append(1)
        if len(calls) > alive[0]:
            raise ConnectionError
        return {"actions": np.repeat([[0.01, 0, 0, 0, 0, 0, 1]], 2, axis=0)}

    def run(url):
        names = ["still", f"served={url}"]
        return run_trials(world, contenders_of(names, world), beginnings, config(), None, tmp_path)

    with policy_server(infer) as url:
        with pytest.raises(WorkerLostError, match="ended the connection"):
            run(url)
        assert len(list(tmp_path.glob("*.npz"))) == 1  # the finished policy
        alive[0] = 10**6
        first = run(url)
        asked = len(calls)
        second = run(url)
        assert len(calls) == asked
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left.rewards["imagined"], right.rewards["imagined"])
    assert [trial.name for trial in second] == ["still", "served"]
    run_trials(world, contenders_of(["still"], world), beginnings, config(horizon=3), None, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 3  # another horizon is another trial


def test_a_policy_of_which_nothing_is_known_is_played_again_and_not_kept(world, beginnings, tmp_path):
    def values(speed, **said):
        act = from_callable("mine", lambda _: np.array([[speed, 0, 0, 0, 0, 0, 1]]), **said)
        return run_trials(world, [act], beginnings[:2], config(), None, tmp_path)[0].actions[..., 0]

    assert (values(0.01) == np.float32(0.01)).all() and (values(0.02) == np.float32(0.02)).all()
    assert not list(tmp_path.iterdir())
    assert np.array_equal(values(0.01, identity="weights a"), values(0.02, identity="weights a"))
    assert (values(0.02, identity="weights b") == np.float32(0.02)).all()


def test_what_other_code_found_is_not_taken(world, beginnings, tmp_path, monkeypatch):
    still = [contender_of("still", world)]
    for code in ("a", "b", "a"):
        monkeypatch.setattr(evaluate, "_code", lambda code=code: code)
        run_trials(world, still, beginnings[:2], config(), None, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_the_documents_own_example_runs(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs/how-to/evaluate-a-policy.md").read_text(encoding="ascii")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(example, {"world": world, "my_network": lambda image: np.array([[0.01, 0, 0, 0, 0, 0, image[0, 0, 0] > 99]])})
    assert "policy.mine.imagined" in capsys.readouterr().out


def test_values_of_unlike_protocols_are_not_compared(world, trials):
    one = trial_protocol(world, trials, config(), "recorded", "none", LIMIT)
    require_comparable(one, one.replace(f"model={world.identity}", "model=0"))
    with pytest.raises(ConfigError, match="horizon"):
        require_comparable(one, trial_protocol(world, trials, config(horizon=9), "recorded", "none", LIMIT))


def test_what_is_not_there_is_named(world, beginnings, tmp_path):
    with pytest.raises(ConfigError, match="expert, noisy_low"):
        contender_of("exprt", world)
    with pytest.raises(
        ConfigError, match=r"(?s)cannot act in imagination.*metaworld:expert.*39 numbers.*evaluate_values"
    ):
        contender_of("metaworld:expert", world)
    with pytest.raises(ConfigError, match="simulator's state"):
        bare = [each.__class__(**(vars(each) | {"scene": None})) for each in beginnings]
        imagine_policy(world, contender_of("expert", world), bare, 2, None)
    with pytest.raises(ConfigError, match="canonical actions"):
        fleet_beginnings("fleet_relabel", 2, 0, FORM)
    with pytest.raises(ConfigError, match="two policies of one name"):
        run_trials(world, contenders_of(["still", "still"], world), beginnings, config(), None, tmp_path)
    headless = whale.load(tiny_world.write_bundle(tmp_path / "other", with_reward=False))
    with pytest.raises(ConfigError, match="no reward head"):
        run_trials(headless, contenders_of(["still"], world), beginnings, config(), None, tmp_path)


@pytest.mark.parametrize("name", ["", "..", "../x", "/tmp/x", "a/b", "a.b", "a b", "a\n", "|"])
def test_a_name_that_could_leave_its_folder_is_refused_before_anything_is_connected_to(world, name):
    with pytest.raises(ConfigError, match=r"(?s)not a name of a policy.*letters, digits.*mine="):
        contender_of(f"{name}=ws://127.0.0.1:1", world)


def test_a_server_without_a_name_is_called_after_its_address_in_letters_that_a_file_may_have(world):
    with policy_server(lambda _: {}) as url:
        port = url.rpartition(":")[2]
        assert contender_of(url, world).name == f"server-127-0-0-1-{port}"
        assert contender_of(f"{url}/v1?a=b", world).name == f"server-127-0-0-1-{port}-v1"
        assert contender_of(f"My_1-x={url}", world).name == "My_1-x"


def test_where_the_limit_was_calibrated_on_drawn_tokens_frames_are_drawn_the_same_in_any_batch(world, beginnings):
    drawn = {**world.calibration, "decoding": "sample", "temperature": 1.0, "samples": 2}
    sampling, still = replace(world, calibration=drawn), contender_of("still", world)
    likely = imagine_policy(world, still, beginnings, HORIZON, "retracing")
    together = imagine_policy(sampling, still, beginnings, HORIZON, "retracing")
    alone = imagine_policy(sampling, still, beginnings[2:3], HORIZON, "retracing")
    assert not np.array_equal(together.frames, likely.frames)
    assert np.array_equal(together.frames[2:3], alone.frames)
    np.testing.assert_allclose(together.uncertainty[2:3], alone.uncertainty, rtol=1e-6)
    plain = imagine_policy(sampling, still, beginnings, HORIZON, None)
    assert np.array_equal(plain.frames, likely.frames)  # where nothing is said of trust
    asked = trial_protocol(sampling, [], config(), "recorded", "none", None)
    assert all(f"|{each}|" in asked for each in ("decoding=sample", "samples=2", "temperature=1.0"))
