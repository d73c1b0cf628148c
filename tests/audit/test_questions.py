"""The auditor's questions on the toy chain: each answer is held against a slow computation of the same thing."""

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import toy_chain
import yaml
from rlds_fixture import episodes as episodes_of
from rlds_fixture import write_rlds
from toy_chain import ART, FINAL, METRICS

from whale.audit.checks import rederive
from whale.audit.checks.completeness import completeness
from whale.audit.page import title
from whale.audit.questions.affected import affected
from whale.audit.questions.diff import diff
from whale.audit.questions.episodes import episodes
from whale.audit.questions.leakage import leakage
from whale.audit.questions.licences import LicencePolicy, licences
from whale.audit.questions.seen import seen
from whale.audit.questions.show import show
from whale.audit.questions.why import why
from whale.audit.run_graph import RunGraph
from whale.cli import run as whale
from whale.common.errors import ConfigError, IncompleteError, MissingInputError
from whale.reporting.page import anchor

BASE = ART / "models/dynamics/full"


def final(graph: RunGraph, folder: Path = FINAL):
    return graph.find(str(folder)).run


def test_show_names_every_dataset_weight_share_and_parent(chain):
    graph = RunGraph.load()
    found = show(graph.find(str(FINAL)), graph)
    assert [row["name"] for row in found["datasets"]] == ["alpha", "beta", "gamma"]
    assert found["datasets"][0]["dropped"] == {"too_short": 1} and found["missing"] == []
    weights = {(row["stage"], row["dataset"]): row["weight_set"] for row in found["sampled"]}
    assert weights["train_dynamics@full", "beta"] == 2.5 and weights["finetune_dynamics@full", "gamma"] == 1.0
    assert [row["stage"] for row in found["checkpoints"]] == ["train_tokenizer", "train_dynamics@full"]
    manifest = json.loads((ART / "data/pretrain/shards/alpha/manifest.json").read_text())
    assert found["datasets"][0]["files"] == len(manifest["sources"])


def test_seen_equals_a_log_of_every_draw(chain):
    """For every episode of every dataset: times, first and last step, as counted from what the sampler handed out."""
    logged = toy_chain.train("train_dynamics", "full", BASE, "pretrain", initial=ART / "models/tokenizer")
    graph = RunGraph.load()
    run = final(graph, BASE)
    times, steps = Counter(key for _, key in logged), {}
    for step, key in logged:
        steps.setdefault(key, []).append(step)
    for row in episodes(run, graph, dropped_only=False)["episodes"]:
        name = row["key"].split("-")[0]
        if name == "gamma":
            continue
        found = next(each for each in seen(run, row["key"], graph) if each.stage == "train_dynamics@full")
        assert found.times == times[row["key"]] == sum(found.by_segment.values())
        expected = (min(steps[row["key"]]), max(steps[row["key"]])) if row["key"] in steps else (0, 0)
        assert (found.first_step, found.last_step) == expected


def test_seen_knows_the_order_of_an_entry_with_a_seed_of_its_own(chain):
    params = Path("params.yaml")
    params.write_text(
        params.read_text().replace("train_dynamics:\n  full:\n", "train_dynamics:\n  full:\n    seed: 5\n")
    )
    logged = toy_chain.train("train_dynamics", "full", BASE, "pretrain", initial=ART / "models/tokenizer")
    graph = RunGraph.load()
    run, first = final(graph, BASE), {}
    for step, key in logged:
        first.setdefault(key, step)
    assert run.params["train_dynamics"]["seed"] == 5
    found = {key: next(e for e in seen(run, key, graph) if e.stage == "train_dynamics@full") for key in first}
    assert {key: each.first_step for key, each in found.items()} == first
    assert sum(each.times for each in found.values()) == len(logged)


def test_seen_knows_the_episodes_of_an_entry_that_takes_a_fraction(chain):
    params = Path("params.yaml")
    text = params.read_text()
    params.write_text(text.replace("train_dynamics:\n  full:\n", "train_dynamics:\n  full:\n    data_fraction: 0.5\n"))
    logged = toy_chain.train("train_dynamics", "full", BASE, "pretrain", initial=ART / "models/tokenizer")
    graph = RunGraph.load()
    run, times = final(graph, BASE), Counter(key for _, key in logged)
    rows = [row["key"] for row in episodes(run, graph, False)["episodes"] if row["split"] == "train" and row["kept"]]
    found = {key: next(e for e in seen(run, key, graph) if e.stage == "train_dynamics@full").times for key in rows}
    assert found == {key: times[key] for key in rows} and 0 in found.values() and sum(times.values()) == len(logged)


def test_seen_counts_what_a_reward_head_drew_of_demonstrations_alone_though_it_was_given_the_mixture(chain):
    params = Path("params.yaml")
    values = yaml.safe_load(params.read_text())
    head = {"role": "finetune", "optimization": toy_chain.OPTIMIZATION}
    params.write_text(yaml.safe_dump(values | {"train_reward": {"head": head}}))
    out = ART / "reward/head"
    logged = toy_chain.train("train_reward", "head", out, "finetune", initial=ART / "models/tokenizer")
    graph = RunGraph.load()
    run, times = final(graph, out), Counter(key for _, key in logged)
    assert "mix" in {each.stage for each in graph.parents(run)} and sum(times.values()) == len(logged)
    for row in episodes(run, graph, False)["episodes"]:
        found = [each.times for each in seen(run, row["key"], graph) if each.stage == "train_reward@head"]
        assert found == ([times[row["key"]]] if row["key"].startswith("gamma") else []), row["key"]


def test_seen_follows_every_training_behind_a_checkpoint_and_works_by_digest(chain):
    graph = RunGraph.load()
    run = final(graph)
    payload = episodes(run, graph, False)["episodes"][0]["payload_sha256"]
    by_digest = seen(run, payload[:12], graph)
    assert [each.stage for each in by_digest] == ["train_tokenizer", "train_dynamics@full"]
    (gamma,) = seen(run, "gamma-train-0000000", graph)
    assert gamma.stage == "finetune_dynamics@full" and gamma.times > 0
    with pytest.raises(MissingInputError, match="no such episode"):
        seen(run, "delta-train-0000000", graph)


def test_answers_survive_the_deletion_of_all_data(chain):
    before = affected("dataset:alpha", RunGraph.load())
    shutil.rmtree(ART)
    shutil.rmtree("raw")
    graph = RunGraph.load()
    assert affected("dataset:alpha", graph) == before
    assert show(graph.find("finetune_dynamics@full"), graph)["missing"] == []
    assert seen(graph.find("finetune_dynamics@full").run, "alpha-train-0000001", graph)[0].times > 0


def test_affected_reaches_every_checkpoint_and_number_with_its_exposure(chain):
    graph = RunGraph.load()
    found = affected("dataset:alpha", graph)
    shares = {row["stage"]: row["frame_share"] for row in found["checkpoints"]}
    receipt = json.loads((BASE / "receipt.json").read_text())["datasets"]["alpha"]
    assert shares["train_dynamics@full"] == receipt["valid_frame_share"]
    assert shares["finetune_dynamics@full"] is None  # inherited
    assert [row["stage"] for row in found["evaluations"]] == ["evaluate_video"]
    assert [row["stage"] for row in affected("dataset:gamma", graph)["checkpoints"]] == ["finetune_dynamics@full"]
    one = affected("dataset:alpha#alpha-train-0000001", graph)
    assert one["kept"] and {row["stage"]: row["times"] for row in one["checkpoints"]}["train_tokenizer"] > 0
    dropped = episodes(final(graph), graph, dropped_only=True)["episodes"]
    assert not affected(f"dataset:alpha#{dropped[0]['key']}", graph)["kept"]
    with pytest.raises(MissingInputError):
        affected("dataset:alpha@00000000", graph)
    with pytest.raises(ConfigError):
        affected("alpha", graph)


def test_leakage_finds_a_renamed_copy_and_nothing_else(chain):
    """val and test of the toy are the same records: every test episode is found in validation, none in training."""
    graph = RunGraph.load()
    clean = leakage(final(graph), "alpha:test", graph)
    assert clean["leaked"] == [] and len(clean["in_validation"]) == clean["episodes"] == 2
    copy = Path("raw/delta/1.0.0")
    shutil.copytree("raw/alpha/1.0.0", copy)
    for path in copy.iterdir():
        path.rename(copy / path.name.replace("alpha", "delta"))
    for name in ("dataset_info.json", "features.json"):
        text = (copy / name).read_text().replace('"alpha"', '"delta"')
        (copy / name).write_text(text)
    spec = yaml.safe_load(Path("data_specs/alpha.yaml").read_text().replace("alpha", "delta"))
    spec["source"]["splits"] = {"train": "val", "test": "train"}
    Path("data_specs/delta.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    toy_chain.ROLES["delta"] = "other"
    toy_chain.ingest("delta")
    graph = RunGraph.load()
    found = leakage(final(graph), "delta:test", graph)
    assert {row["is"].split("-")[0] for row in found["leaked"]} == {"alpha"}
    assert len(found["leaked"]) == found["episodes"] == 4
    assert whale(["lineage", "leakage", str(FINAL), "--eval", "delta:test"]) == 1


@pytest.mark.parametrize("folder", ["data/pretrain/shards/alpha", "mix"])
def test_leakage_of_what_no_training_stands_above_is_refused_with_what_was_given(chain, capsys, folder):
    assert whale(["lineage", "leakage", str(ART / folder), "--eval", "alpha:test"]) == 64
    said = capsys.readouterr()
    assert said.out == "" and "not a checkpoint" in said.err and "expected: a checkpoint" in said.err
    assert f"found:    {ART / folder}, made by {'mix' if folder == 'mix' else 'ingest@alpha'}" in said.err


def test_leakage_without_the_receipt_of_a_training_is_incomplete_and_not_clean(chain, capsys):
    for path in [*Path("lineage/runs").glob("*/receipt.json"), *ART.rglob("receipt.json")]:
        path.unlink()
    assert whale(["lineage", "leakage", str(FINAL), "--eval", "alpha:test"]) == 4
    said = capsys.readouterr()
    assert said.out == "" and "no receipt of what it drew" in said.err


def altered_copies(name: str, of: str, alter) -> None:
    """A dataset `name`: its test episodes are the train episodes of a file of `of`, with altered pictures and other
    actions; its train episodes are new."""
    scene, lengths = list(toy_chain.LENGTHS).index(of), toy_chain.LENGTHS[of][0]
    copies = toy_chain.filmed(episodes_of(lengths, 10 * scene), scene)
    for each in copies:
        each["steps/action"] = each["steps/action"] * np.float32(0.5)
    new = toy_chain.filmed(episodes_of([8, 8], 99), scene)
    for each in [*copies, *new]:
        pictures = each["steps/observation/image"]
        pictures[:] = [alter(simplejpeg.decode_jpeg(data)) for data in pictures]
    write_rlds(Path("raw"), {"train": [new], "test": [copies]}, name=name)
    spec = yaml.safe_load(Path(f"data_specs/{of}.yaml").read_text().replace(of, name))
    spec["source"]["splits"] = {"train": "train", "test": "test"}
    spec["cameras"]["primary"]["hw"] = list(simplejpeg.decode_jpeg_header(pictures[0])[:2])
    Path(f"data_specs/{name}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    toy_chain.ROLES[name] = "other"
    toy_chain.ingest(name)


ALTERED = {
    "encoded anew": lambda image: simplejpeg.encode_jpeg(image, quality=50),
    "brightened": lambda image: simplejpeg.encode_jpeg(np.minimum(image * 1.1 + 15, 255).astype(np.uint8), quality=90),
    "resized": lambda image: simplejpeg.encode_jpeg(cv2.resize(image, (36, 32)), quality=90),
}


@pytest.mark.parametrize("how", ALTERED)
def test_near_leakage_finds_altered_copies_that_equal_no_byte_and_calls_no_other_episode_one(chain, how, capsys):
    altered_copies("delta", "alpha", ALTERED[how])
    graph = RunGraph.load()
    run = final(graph)
    assert leakage(run, "delta:test", graph)["leaked"] == []
    found = leakage(run, "delta:test", graph, near=True)
    pairs = {(row["episode"], row["is"]) for row in found["near"]}
    assert pairs == {(f"delta-test-000000{n}", f"alpha-train-000000{n}") for n in range(3)} and found["episodes"] == 3
    assert found["leaked"] == [] == leakage(run, "alpha:test", graph, near=True)["near"]
    assert whale(["lineage", "leakage", str(FINAL), "--eval", "delta:test", "--near"]) == 1
    assert "NEAR    delta-test-0000000 looks like alpha-train-0000000" in capsys.readouterr().out
    for name in ("alpha:test", "delta:train"):
        assert whale(["lineage", "leakage", str(FINAL), "--eval", name, "--near"]) == 0


def test_near_leakage_says_that_frames_are_gone_or_are_not_those_that_were_signed(chain, capsys):
    command = ["lineage", "leakage", str(FINAL), "--eval", "gamma:test"]
    folder = ART / "data/pretrain/shards/beta"
    shard = next(folder.rglob("*.tar"))
    shard.rename("kept.tar")
    assert whale([*command, "--near"]) == 2
    assert f"{shard}" in (said := capsys.readouterr().err) and "dvc checkout" in said
    Path("kept.tar").rename(shard)
    assert whale([*command, "--near"]) == 0
    (folder / "MANIFEST.json").write_text("{}")
    assert whale([*command, "--near"]) == 1
    shutil.rmtree(folder)
    assert whale([*command, "--near"]) == 2 and whale(command) == 0


def test_licences_are_judged_by_the_policy(chain, capsys):
    graph = RunGraph.load()
    assert licences(final(graph), graph, LicencePolicy())["refused"] == []
    assert licences(final(graph), graph, LicencePolicy(allow=["MIT"]))["refused"] == ["alpha", "beta", "gamma"]
    Path("policy.yaml").write_text("allow: [MIT]\n")
    assert whale(["lineage", "licenses", str(FINAL)]) == 0
    assert whale(["lineage", "licenses", str(FINAL), "--policy", "policy.yaml"]) == 3
    from whale.audit.questions.licences import refusal

    for spdx in ("CC-BY-NC-4.0", "LicenseRef-unverified", None):
        assert refusal({"spdx": spdx, "evidence": "read"}, LicencePolicy())
    assert refusal({"spdx": "MIT", "evidence": "unverified"}, LicencePolicy(require_evidence=True))


def test_diff_is_empty_exactly_for_equal_digests_and_names_what_was_changed(chain):
    old = RunGraph.load()
    assert diff(old.find(str(BASE)), old.find(str(BASE)), old)["equal"]
    first = old.find(str(BASE))
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("weight: 2.5", "weight: 4.0"))
    toy_chain.mix()
    toy_chain.train("train_dynamics", "full", BASE, "pretrain", initial=ART / "models/tokenizer")
    graph = RunGraph.load()
    found = diff(graph.find(first.sha256), graph.find(str(BASE)), graph)["differences"]
    assert found["mixture"]["train_dynamics.beta.raw_weight"] == [2.5, 4.0]
    assert "datasets" not in found and "episodes" not in found and "params" not in found


def test_why_leads_from_a_number_to_checkpoints_data_and_protocol(chain):
    graph = RunGraph.load()
    found = why(f"{METRICS}#finetune.gamma.test.psnr", graph)
    assert found["value"] == 21.5 and found["protocol"].startswith("metric=psnr|data=gamma/test")
    assert {row["stage"] for row in found["checkpoints"]} >= {"finetune_dynamics@full", "train_tokenizer"}
    assert {row["stage"] for row in found["data"]} == {"ingest@gamma", "pretokenize@gamma"}
    with pytest.raises(MissingInputError, match="no such number"):
        why(f"{METRICS}#finetune.gamma.test.lpips", graph)


def test_own_runs_are_complete_and_a_folder_that_no_stage_made_is_not(chain):
    graph = RunGraph.load()
    found = completeness(final(graph), graph)
    assert (found["percent"], found["missing"]) == (100.0, [])
    shutil.rmtree(next(iter(final(graph).byproducts.values()))[0].rsplit("/", 1)[0])
    assert completeness(final(graph), graph)["percent"] < 100
    Path("made_by_hand").mkdir()
    with pytest.raises(IncompleteError):
        graph.find("made_by_hand")


def test_a_taint_reaches_all_descendants_and_the_guard_refuses_to_build_on_it(chain, monkeypatch, capsys):
    assert whale(["lineage", "taint", "add", "dataset:gamma#gamma-train-0000001", "--reason", "consent withdrawn"]) == 0
    assert whale(["lineage", "verify", str(FINAL)]) == 5
    assert whale(["lineage", "verify", str(BASE)]) == 0
    assert "consent withdrawn" in capsys.readouterr().out
    from whale.common.errors import TaintedError

    with pytest.raises(TaintedError, match="consent withdrawn"):
        toy_chain.train("finetune_dynamics", "full", FINAL, "finetune", initial=BASE)
    monkeypatch.setenv("WHALE_ALLOW_TAINTED", "1")
    toy_chain.train("finetune_dynamics", "full", FINAL, "finetune", initial=BASE)
    assert "consent withdrawn" in str(final(RunGraph.load()).internal["allowed_taints"])
    assert whale(["lineage", "taint", "list"]) == 0


def test_a_tainted_checkpoint_taints_what_was_made_from_it_and_nothing_is_fine_tuned_from_that(chain):
    """The tokenizer is no input of the fine-tuning: the taint reaches it through dynamics and tokens."""
    from whale.common.errors import TaintedError

    assert whale(["lineage", "taint", "add", "train_tokenizer", "--reason", "wrong data"]) == 0
    assert whale(["lineage", "verify", str(FINAL)]) == 5
    with pytest.raises(TaintedError, match="wrong data"):
        toy_chain.train("finetune_dynamics", "full", FINAL, "finetune", initial=BASE)


def test_the_episode_tables_add_up_and_tell_why_one_was_dropped(chain):
    graph = RunGraph.load()
    found = episodes(final(graph), graph, dropped_only=True)
    (row,) = found["episodes"]
    assert row["reason"] == "too_short" and row["source_file"].startswith("alpha-train")
    whole = pq.read_table(ART / "data/pretrain/shards/alpha/episodes.parquet", columns=["key", "kept"])
    assert found["datasets"][0]["read"] == len(whole)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", str(FINAL)], 0),
        (["episodes", str(FINAL), "--dropped"], 0),
        (["env", str(FINAL)], 0),
        (["code", str(FINAL)], 0),
        (["diff", "train_tokenizer", "train_dynamics@full"], 1),
        (["seen", str(FINAL), "alpha-train-0000001"], 0),
        (["why", str(METRICS)], 0),
        (["affected", "dataset:beta"], 0),
        (["completeness", str(FINAL)], 0),
        (["verify", str(FINAL), "--deep"], 0),
        (["show", "nowhere"], 2),
    ],
)
def test_each_verb_says_it_to_people_and_to_programs(chain, arguments, code, capsys):
    assert whale(["lineage", *arguments]) == code
    plain = capsys.readouterr()
    assert whale(["lineage", *arguments, "--json"]) == code
    if code != 2:
        assert plain.out and isinstance(json.loads(capsys.readouterr().out), dict)


def test_audit_is_show_and_verify(chain, capsys):
    assert whale(["audit", str(FINAL)]) == 0
    assert "nothing has changed" in capsys.readouterr().out


def test_the_page_draws_every_run_and_needs_no_network(chain):
    assert whale(["lineage", "show", str(FINAL), "--html", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="ascii")
    graph = RunGraph.load()
    for each in graph.ancestors(final(graph)):
        assert f'href="#{anchor(title(each))}"' in page and f'id="{anchor(title(each))}"' in page
        assert f'href="#stage-{title(each)}"' in page or each.id == final(graph).id
        assert all(digest in page for digest in each.subjects.values())
    assert "://" not in page and "<script" not in page


def test_a_run_is_made_again_with_its_own_workers_threads_and_device():
    run = SimpleNamespace(internal={"workers": 2, "threads": 1, "engine": {"device": "cpu", "compile": False}})
    expected = {"WHALE_TRAIN_WORKERS": "2", "WHALE_THREADS": "1", "WHALE_DEVICE": "cpu"}
    assert rederive._execution(run) == expected


def test_rederive_says_what_is_missing(chain, capsys):
    """Running a stage again is tested on the real chain (tests/test_pipeline.py): the toy's stages are no processes."""
    shutil.rmtree("raw/alpha")
    assert whale(["lineage", "rederive", str(FINAL)]) == 2
    assert "raw/alpha" in capsys.readouterr().out
