"""Rates, intervals, agreement and canaries: closed forms, and judges that are known to be good or bad."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judge_server import KEY, VALUES, JudgeServer, by_pixels, gullible, judge_of
from tiny_world import write_models

from whale.cli import run
from whale.common.errors import BadDataError, MissingInputError
from whale.evaluation.judging.canaries import canaries, mixed
from whale.evaluation.judging.consistency import cohens_kappa, consistency_metrics, judge_all, records, wilson
from whale.evaluation.judging.fleet_tests import (
    TESTS,
    drawn,
    episodes,
    imagined_pairs,
    meets,
    read_truth,
    simulated_pairs,
)
from whale.evaluation.judging.judge import KnownTruth
from whale.evaluation.judging.pairs import Source, read_pairs, write_pairs

SOURCE = Source(data="fleet_unseen", model="abc")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("JUDGE_TEST_KEY", KEY)


@pytest.fixture(scope="module")
def pairs():
    return [pair for test in TESTS for pair in simulated_pairs(test, 8, 0)]


def measured(judge, pairs, seed=0):
    items = mixed([*pairs, *canaries(pairs, 2, seed)], seed)
    judged = judge_all(judge, items)
    return consistency_metrics(judged, judge, SOURCE, "fleet"), judged


def test_wilson_and_kappa_are_those_of_the_books():
    found = wilson(10, 20)
    assert (found.low, found.high) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(0, 20).low == 0 and wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(1, 1).high == 1 and wilson(1, 1).low == pytest.approx(0.2065, abs=1e-4)
    assert cohens_kappa(20, 5, 10, 15) == pytest.approx(0.4)
    assert cohens_kappa(25, 25, 25, 25) == pytest.approx(0.0) and np.isnan(cohens_kappa(9, 0, 0, 0))


def test_the_known_faults_of_the_simulator_are_what_the_criteria_say(pairs):
    told = {(pair.test, pair.name.rpartition("-")[2]): pair.about.truth for pair in pairs}
    good, bad = ("none", "exact", "shorter", "longer"), ("halved", "still", "vanished", "blurred")
    assert {test for test, _ in told} == set(TESTS)
    assert not [key for key, truth in told.items() if key[1] in bad and truth]
    assert sum(truth for key, truth in told.items() if key[1] in good) >= 10


@pytest.mark.parametrize("test", TESTS)
def test_what_a_frame_shows_is_read_as_its_state_says(test):
    found = [
        (read_truth(episode, pair.imagined), pair.about.truth)
        for episode, pair in zip(episodes(test, 8, 3), simulated_pairs(test, 8, 3), strict=True)
    ]
    assert sum(read == truth for read, truth in found) >= 7 and len({truth for _, truth in found}) == 2


def test_a_world_that_is_the_simulator_is_consistent_and_one_that_stands_still_is_not():
    known = {drawn(each.start).tobytes(): drawn(each.end) for each in episodes("motion", 4, 0)}
    for imagine, expected in ((lambda first, _: known[first.tobytes()], True), (lambda first, _: first, False)):
        found = imagined_pairs("motion", 4, 0, imagine, lambda frame: frame)
        assert [pair.about.truth for pair in found] == [expected and pair.about.recorded_meets for pair in found]
    assert any(pair.about.recorded_meets for pair in found)


def test_an_arm_elsewhere_is_not_consistent_though_the_plate_is():
    episode = next(each for each in episodes("motion", 8, 0) if each.recorded_meets)
    away = episode.end.copy()
    away.pose[:, 0] += 0.2
    assert meets("motion", episode.end, episode.end) and not meets("motion", episode.end, away)


def test_the_truth_agrees_with_itself_and_an_opposite_judge_does_not(pairs, tmp_path):
    metrics, _ = measured(KnownTruth(), pairs)
    assert metrics["all.truth.kappa"] == 1 and metrics["all.truth.accuracy"] == 1 and metrics["status"] == "measured"
    assert metrics["all.consistency"] == metrics["all.truth.consistency"] == 0.5
    turned = [replace(pair, about=pair.about.model_copy(update={"truth": not pair.about.truth})) for pair in pairs]
    judged = judge_all(KnownTruth(), turned)
    back = dict(zip([pair.key for pair in pairs], pairs, strict=True))
    judged = replace(judged, pairs=[(back[pair.key], said) for pair, said in judged.pairs])
    assert consistency_metrics(judged, KnownTruth(), SOURCE, "fleet")["all.truth.kappa"] == -1


def test_an_honest_judge_passes_its_canaries_and_its_agreement_is_said(pairs, tmp_path):
    with JudgeServer(by_pixels) as server:
        judge = judge_of(server, tmp_path, votes=1, max_calls=1000, image_side=72)
        metrics, judged = measured(judge, pairs)
        again, _ = measured(judge_of(server, tmp_path, votes=1, max_calls=0, image_side=72), pairs)
    assert metrics["status"] == "measured" and metrics["canaries.right"] == metrics["canaries.asked"] == 24
    assert metrics["all.truth.pairs"] == 24 and 0 < metrics["all.truth.kappa"] < 1 and metrics["all.invalid"] == 0
    assert "judge=local/judge-1" in metrics["protocol"] and metrics["protocol"].endswith("model=abc")
    drop = [name for name in metrics if name.startswith("spent.")]
    assert {k: v for k, v in metrics.items() if k not in drop} == {k: v for k, v in again.items() if k not in drop}
    row = json.loads(records(judged, judge)[0])
    assert len(row["images"]["recorded"]) == 64 and row["judge"] == "local/judge-1" and row["replies"]


@pytest.mark.parametrize("answer, why", [
    (gullible, "injection"), (lambda _: "Yes.", "noise"), (lambda _: "No.", "itself"), (lambda _: "Well", "understood"),
])  # fmt: skip
def test_a_judge_that_obeys_data_or_always_says_one_thing_gets_no_rate(pairs, tmp_path, answer, why):
    some = [replace(pair, task="other") for pair in pairs]  # asked by the question that quotes the instruction
    with JudgeServer(answer) as server:
        metrics, _ = measured(judge_of(server, tmp_path, votes=1, max_calls=1000), some)
    assert metrics["status"].startswith("unjudged") and why in metrics["status"]
    assert "all.consistency" not in metrics and "all.consistency_unjudged" in metrics


def test_canaries_are_a_function_of_pairs_and_seed_and_not_told_by_their_place(pairs):
    first, again = (canaries(pairs, 2, 7) for _ in range(2))
    assert [each.digests for each in first] == [each.digests for each in again]
    order = [pair.canary is not None for pair in mixed([*pairs, *first], 7)]
    assert True in order[: len(order) // 2] and True in order[len(order) // 2 :]


def test_pairs_survive_the_disk_and_what_is_odd_is_named(pairs, tmp_path):
    write_pairs(tmp_path / "p", SOURCE, pairs[:3])
    source, found = read_pairs(tmp_path / "p")
    assert source == SOURCE and {p.key: p.digests for p in found} == {p.key: p.digests for p in pairs[:3]}
    folder = tmp_path / "p" / pairs[0].key
    (folder / "imagined.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    with pytest.raises(BadDataError, match=r"imagined\.png"):
        read_pairs(tmp_path / "p")
    (folder / "imagined.png").unlink()
    with pytest.raises(MissingInputError, match="imagined"):
        read_pairs(tmp_path / "p")


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "data_specs").symlink_to(Path(__file__).parents[3] / "data_specs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_pairs_judges_them_by_truth_and_asks_nobody_unasked(project, capsys, monkeypatch):
    import socket

    def refuse(*_: object, **__: object):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert run(["evaluate", "consistency", "pairs", "--simulate", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"]["motion"]["pairs"] == 4
    assert run(["evaluate", "consistency", "pairs", "--simulate", "4"]) == 64
    capsys.readouterr()
    assert run(["evaluate", "consistency", "pairs", "--json", "--out", "out"]) == 0
    assert json.loads(capsys.readouterr().out)["all.truth.kappa"] == 1
    assert len(Path("out/judgements.jsonl").read_text().splitlines()) == 12


def test_the_command_imagines_new_episodes_with_a_trained_model(project, capsys):
    folder = write_models(project / "models", ("fleet_unseen",))
    assert run(["evaluate", "consistency", "pairs", "--simulate", "1", "--world", str(folder), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written == {test: {"pairs": 1, "consistent": 0} for test in TESTS}  # its networks have learned nothing
    source, pairs = read_pairs(Path("pairs"))
    assert len(source.model) == 16 and {pair.imagined.shape for pair in pairs} == {(16, 16, 3)}


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file() and "data_specs" not in path.parts)


def test_a_dry_run_of_simulating_says_what_and_writes_nothing(project, capsys):
    assert run(["evaluate", "consistency", "pairs", "--simulate", "2", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == dict.fromkeys(TESTS, 2)
    assert files(project) == [] and not Path("pairs").exists()


@pytest.mark.parametrize("options", [
    ["--simulate", "0"], ["--world", "models"], ["--simulate", "2", "--judge", "judge.yaml"],
    ["--simulate", "2", "--out", "out"], ["--questions", "data_specs/questions/fleet.yaml"],
])  # fmt: skip
def test_options_that_would_be_passed_over_are_refused(project, capsys, options):
    """`--simulate 0 --world` wrote 20; a truth judge read questions that nobody asks."""
    assert run(["evaluate", "consistency", "pairs", *options]) == 64
    assert options[0 if options[0] != "--simulate" or len(options) == 2 else 2] in capsys.readouterr().err
    assert files(project) == []


def test_a_folder_that_holds_no_pairs_is_called_so(project, capsys):
    Path("empty").mkdir()
    Path("file").write_text("x")
    for folder in ("empty", "nowhere", "file"):
        assert run(["evaluate", "consistency", folder]) == 2
        said = capsys.readouterr().err
        assert "no pairs here" in said and f"consistency {folder} --simulate" in said and "model" not in said
    assert run(["evaluate", "consistency", "file", "--simulate", "2"]) == 64
    assert "not a folder" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_said_before_anybody_is_asked(project, capsys):
    assert run(["evaluate", "consistency", "pairs", "--simulate", "2"]) == 0
    Path("taken").write_text("x")
    with JudgeServer() as server:
        Path("judge.yaml").write_text(json.dumps(VALUES | {"url": server.url, "max_calls": 1000}))
        for out in ("taken", "taken/below"):
            assert run(["evaluate", "consistency", "pairs", "--judge", "judge.yaml", "--out", out]) == 64
            assert "--out" in capsys.readouterr().err and not server.requests
    assert Path("taken").read_text() == "x"


def test_every_task_without_a_question_is_named_before_the_first_call(project, capsys, pairs):
    odd = [replace(pairs[0], task=task) for task in ("zz_other", "another")]
    write_pairs(project / "pairs", SOURCE, [*pairs[:3], *odd])
    asked = {"name": "few", "source": "test", "follow_up": "And this?", "tests": {"visual": {"open_bin": "Open?"}}}
    Path("few.yaml").write_text(json.dumps(asked))
    with JudgeServer() as server:
        Path("judge.yaml").write_text(json.dumps(VALUES | {"url": server.url, "max_calls": 1000}))
        command = ["evaluate", "consistency", "pairs", "--judge", "judge.yaml", "--questions", "few.yaml"]
        for more in ([], ["--dry-run"]):
            assert run([*command, *more]) == 64
            assert "visual/another, visual/zz_other" in capsys.readouterr().err and not server.requests
    assert run(["evaluate", "consistency", "pairs", "--json"]) == 0  # the truth is asked nothing


def test_the_truth_judges_without_any_file_of_questions(project, capsys, pairs):
    (project / "data_specs").unlink()
    write_pairs(project / "pairs", SOURCE, pairs[:3])
    assert run(["evaluate", "consistency", "pairs", "--json"]) == 0
    assert "questions=none" in json.loads(capsys.readouterr().out)["protocol"]
    unknown = replace(pairs[3], about=pairs[3].about.model_copy(update={"truth": None}))
    write_pairs(project / "pairs", SOURCE, [unknown])
    assert run(["evaluate", "consistency", "pairs", "--dry-run"]) == 64
    assert unknown.key in capsys.readouterr().err


def test_the_command_with_a_server_says_first_what_it_costs(project, capsys, monkeypatch):
    monkeypatch.setenv("JUDGE_TEST_KEY", KEY)
    assert run(["evaluate", "consistency", "pairs", "--simulate", "2"]) == 0
    with JudgeServer() as server:
        Path("judge.yaml").write_text(json.dumps(VALUES | {"url": server.url, "max_calls": 1000}))
        command = ["evaluate", "consistency", "pairs", "--judge", "judge.yaml", "--canaries", "1"]
        capsys.readouterr()
        assert run([*command, "--dry-run", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert not server.requests and said["pairs"] == 6 and said["usd"] > 0
        assert run([*command, "--out", "out"]) == 0
        out = capsys.readouterr()
        assert len(server.requests) <= said["calls"] and "protocol" not in out.err
    assert "motion.push_plate_left" in out.out and "canaries: " in out.out
    files = [path for path in project.rglob("*") if path.is_file() and "data_specs" not in path.parts]
    assert KEY not in out.out + out.err and not [path for path in files if KEY.encode() in path.read_bytes()]
    Path("judge.yaml").write_text("url: https://h/x\nmodel: m\nkey: sk-1\n")
    assert run(command) == 64
