"""`whale policy evaluate`: one call from a bundle to a table, and every refusal in words with its exit code."""

import json

import numpy as np
import pytest
import tiny_world
from openpi_loopback import policy_server

from whale.cli import run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_world.write_bundle(tmp_path_factory.mktemp("world"))


@pytest.fixture
def asked(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def ask(*words, world=bundle):
        code = run(["policy", "evaluate", str(world), "--horizon", "3", *words])
        return code, capsys.readouterr()

    return ask


def test_policies_of_every_kind_stand_in_one_table(asked):
    with policy_server(lambda _: {"actions": np.tile([0.02, 0, 0, 0, 0, 0, 1], (2, 1))}) as url:
        code, said = asked("--policy", "behavior", "--policy", "still", "--policy", f"mine={url}")
    assert code == 0, said.err
    assert [line.split()[0] for line in said.out.splitlines()[2:5]] == ["behavior", "still", "mine"]
    assert "status: no truth" in said.out and "protocol: metric=policy_value|" in said.out
    assert "|episodes=6|" in said.out  # as many starts as the bundle has


def test_the_number_of_episodes_is_that_of_the_starts_that_were_played(asked):
    code, said = asked("--policy", "still", "--episodes", "3", "--json")
    metrics = json.loads(said.out)
    assert code == 0 and metrics["num_episodes"] == 3 and metrics["num_policies"] == 1
    assert "|episodes=3|" in metrics["protocol"]


def test_the_simulators_truth_stands_beside_it_and_a_repeated_call_says_the_same(asked):
    words = ["--truth", "fleet", "--policy", "expert", "--policy", "still", "--episodes", "4", "--json"]
    first, second = asked(*words), asked(*words)
    assert first[0] == 0, first[1].err
    metrics = json.loads(first[1].out)
    assert metrics["policy.still.true"] == 0 and metrics["across.imagined.gap"] > 0
    assert metrics["trust_limit"] == 0.8 and first[1].out == second[1].out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--policy", "exprt"], 64, "epsilon_greedy_expert"),
        (["--policy", "expert"], 64, "simulator's state"),
        (["--policy", "still", "--truth", "robot"], 64, "fleet or none"),
        (["--policy", "still", "--uncertainty", "guess"], 64, "uncertainty"),
        (["--policy", "still", "--episodes", "1"], 64, "episodes"),
        (["--policy", "still", "--episodes", "7"], 64, "6 in the bundle"),
        (["--policy", "../x=ws://127.0.0.1:9"], 64, "not a name of a policy"),
        (["--policy", "ws://192.0.2.7:80"], 64, "leave this machine"),
        (["--policy", "ws://127.0.0.1:9"], 2, "no policy server answers"),
        (["--policy", "still", "--robot", "other"], 64, "fleet_delta"),
    ],
)
def test_what_cannot_be_done_is_told(asked, words, code, said):
    found, printed = asked(*words)
    assert found == code and said in printed.err and "Traceback" not in printed.err


def test_a_server_that_lies_ends_the_command_with_its_address(asked):
    with policy_server(lambda _: {"actions": np.zeros((1, 6))}) as url:
        code, printed = asked("--policy", f"mine={url}")
    assert code == 3 and "number of action dimensions" in printed.err
    with policy_server(lambda _: b"junk") as url:
        code, printed = asked("--policy", f"mine={url}")
    assert code == 65 and url in printed.err
