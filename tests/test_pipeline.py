"""The whole program, once per test run: real stages, formats and frameworks at the smallest sizes that mean anything.

Ray stays out here (local mode is the same loop and the same bytes); tests/runtime starts it.
"""

import base64
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_optimization
import transcript
import yaml

from whale.cli import run as whale
from whale.common.files import sha256_of_file
from whale.data.storage.shards import ShardSet
from whale.data.workbench.shard_check import check_shards
from whale.lineage import ledger, signing
from whale.seal import verify_sealed

pytestmark = pytest.mark.timeout(3600)  # the first test waits for the whole chain
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PRETRAIN = ("fleet_delta", "fleet_absolute")
TRUNK = {"num_layers": 2, "num_heads": 2, "d_model": 16}
IMAGINATION = tiny_optimization.values()["imagination"] | {"penalties": ["none", "retracing"]}
ONE_MODEL = {"ensemble": [], "imagination": IMAGINATION, "seeds": [0]}  # nothing of this chain is trained twice


def tiny_params() -> dict:
    """The fleet's parameters with every size and budget cut down; two of its four pretraining robots."""
    params = yaml.safe_load((ROOT / "profiles/fleet.yaml").read_text().replace("artifacts/fleet/", "artifacts/demo/"))
    params["profile"] = "demo"
    for name in set(params["datasets"]) - {*PRETRAIN, "fleet_unseen"}:
        del params["datasets"][name], params["mix"]["weights"][name]
    params["mix"]["dynamics"]["datasets"] = list(PRETRAIN)
    fleet = params["collect"]["fleet"]
    fleet |= {"train_episodes": 8, "val_episodes": 2, "test_episodes": 2, "min_steps": 9, "max_steps": 12}
    fleet |= {"train_shards": 4, "unseen_episodes_per_task": 2, "unseen_test_episodes_per_task": 1}
    fleet |= {"unseen_novel_episodes": 1, "unseen_min_steps": 9, "unseen_max_steps": 10, "test_steps": None}
    params["ingest"]["resolution"] = 32
    params["train_tokenizer"]["model"] |= {"resolution": 32, "num_codes": 32, "encoder": TRUNK, "decoder": TRUNK}
    params["train_tokenizer"]["codebook"] = {"codebook_warmup_steps": 3, "dead_code_steps": 4}
    params["train_behavior"]["model"] |= {"resolution": 32, "posterior": TRUNK, "prior": TRUNK, "policy": TRUNK}
    params["train_behavior"]["validation"] = {"every_steps": 4, "num_segments": 4, "patience": 3}
    for entry in params["train_dynamics"].values():
        entry["size"] = TRUNK
    params["train_rssm"] = yaml.safe_load((ROOT / "profiles/metaworld-small.yaml").read_text())["train_rssm"]
    params["train_rssm"]["dreamer"]["model"] |= {"resolution": 32, "channels": [4, 8], "hidden": 16, "state_size": 16}
    for section in optimizations(params):
        section |= {"batch_size": 4, "training_steps": min(section["training_steps"], 12), "save_every": 4}
        section |= {"warmup_steps": min(section["warmup_steps"], 2)}
    params["evaluate_video"] |= {"max_episodes": 2, "max_train_episodes": 4, "resamples": 100, "filmstrips": 1}
    params["evaluate_video"] |= {"context": 1, "horizons": [4, 8]}  # episodes are short
    params["evaluate_uncertainty"] |= {"max_episodes": 2, "horizon": 4, "resamples": 100, "filmstrips": 1}
    params["evaluate_uncertainty"] |= {"state_episodes": 2}
    params["evaluate_behavior"]["fleet_delta"] |= {"perplexity": 2.0, "resamples": 100}  # 8 segments
    params["train_reward"]["head"] |= {"hidden": 8, "test_episodes": 2}
    params["evaluate_policies"] = {"fleet_delta": tiny_trials()}
    params["optimize_policy"] = {"open_bin": tiny_optimization.values(**ONE_MODEL)}
    return params


def tiny_trials() -> dict:
    """Three policies, the model's own among them."""
    trials = {"policies": ["expert", "still", "behavior"], "episodes": 4, "horizon": 4, "true_episodes": 2, "seed": 0}
    trials |= {"uncertainty": "entropy", "coverage": 0.8, "resamples": 100}
    return {"role": "pretrain", "dataset": "fleet_delta", "model": "full", "reward": "head", "trials": trials}


def optimizations(value):
    """Every `optimization` below `value`."""
    if isinstance(value, dict):
        if "optimization" in value:
            yield value["optimization"]
        for each in value.values():
            yield from optimizations(each)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "WHALE_", "RAY_"))}
    kept |= {"PATH": f"{BIN}{os.pathsep}{kept['PATH']}", "SHELL": "/bin/sh", "WHALE_TRAIN_WORKERS": "0"}
    kept |= {name: os.environ[name] for name in ("WHALE_CONFIG_DIR",) if name in os.environ}  # of conftest.py
    return kept | {"WHALE_MAP_ENGINE": "local", "WHALE_BEAM_WORKERS": "1", "WHALE_THREADS": "1"}


def make_project(root: Path) -> Path:
    for name in ("whale", "pipelines", "data_specs", "profiles", "docs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_params(), sort_keys=False))
    (root / ".dvc").mkdir()
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "the project"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    settings = f"[core]\n    no_scm = true\n    analytics = false\n    site_cache_dir = {root}/.dvc/tmp/site\n"
    (root / ".dvc" / "config").write_text(settings)
    return root


def dvc(root: Path, *arguments: str, expected: int = 0) -> str:
    done = subprocess.run(
        [BIN / "dvc", *arguments], cwd=root, env=environment(), capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == expected, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): sha256_of_file(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def wait_until_free(root: Path) -> None:
    """A training stage that lost its DVC saves its state before it ends, and holds its lock meanwhile."""
    descriptor = os.open(root / ".whale/locks/artifacts-demo-models-dynamics-without_z.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = make_project(tmp_path_factory.mktemp("project"))
    dvc(root, "repro")
    return root


def test_every_output_is_sealed_and_no_partial_file_is_left(project):
    sealed = [path.parent for path in (project / "artifacts").rglob("MANIFEST.json")]
    assert len(sealed) == 29
    for folder in sealed:
        verify_sealed(folder, sha256_of_file)
    assert not [path for path in project.rglob("*tmp-*") if "artifacts" in path.parts or "lineage" in path.parts]


def test_a_second_repro_runs_nothing(project):
    assert "Running stage" not in dvc(project, "repro")


def test_raw_bytes_are_rlds_and_shards_hold_every_episode_of_them(project):
    for name in PRETRAIN:
        raw = project / "artifacts/demo/raw/fleet" / name / "1.0.0"
        assert len(list(raw.glob(f"{name}-train.tfrecord-*-of-00004"))) == 4
        assert check_shards(project / "artifacts/demo/data/pretrain/shards" / name).findings == []
        shards = ShardSet.open(project / "artifacts/demo/data/pretrain/shards" / name, verify="always")
        info = {split["name"]: split for split in json.loads((raw / "dataset_info.json").read_text())["splits"]}
        for split in shards.splits:
            assert len(shards.episodes(split)) == sum(map(int, info[split]["shardLengths"]))


def test_metrics_name_every_claim_of_the_demo_with_its_baseline_and_protocol(project):
    metrics = json.loads((project / "artifacts/demo/metrics/evaluate_video.json").read_text())
    text = json.dumps(metrics)
    for word in ("psnr", "mean_image", "codes", "perplexity", "changed", "copy", "shuffled", "nll", "protocol"):
        assert word in text, word
    of_one = [value for key, value in metrics.items() if re.fullmatch(r"pretrain\.fleet.*\.tokenizer\.codes_used", key)]
    together = metrics["pretrain.codebook.codes_used"]
    assert of_one and max(of_one) <= together <= min(sum(of_one), metrics["pretrain.codebook.num_codes"])
    uncertainty = json.dumps(json.loads((project / "artifacts/demo/metrics/evaluate_uncertainty.json").read_text()))
    assert "retracing" in uncertainty and "entropy" in uncertainty and "spearman" in uncertainty


def test_policies_have_a_true_value_beside_the_imagined_one(project):
    metrics = json.loads((project / "artifacts/demo/metrics/evaluate_policies.fleet_delta.json").read_text())
    for policy in ("expert", "still", "behavior"):
        assert metrics[f"policy.{policy}.true"] is not None and f"policy.{policy}.imagined.low" in metrics
    assert metrics["policy.still.true"] == 0 and "judge=fleet simulator" in metrics["protocol"]
    assert set(metrics["status"].split(":")) & {"measured", "model too weak"}


def test_a_policy_was_optimized_in_imagination_and_tried_in_the_simulator(project):
    metrics = json.loads((project / "artifacts/demo/metrics/optimize_policy.open_bin.json").read_text())
    assert metrics["retracing.alpha"] > 0 and metrics["none.alpha"] == 0
    assert metrics["seeds"] == 1 and "arena=fleet simulator" in metrics["protocol"]
    assert ">Policies<" in (project / "artifacts/demo/report/index.html").read_text()
    assert {path.stem for path in (project / "artifacts/demo/report/plots/success").iterdir()} == {
        f"open_bin.{method}" for method in ("cloning_all", "cloning_best", "none", "retracing")
    }


def test_a_world_exported_from_it_loads_in_another_folder_and_a_policy_is_evaluated_in_it(project, tmp_path):
    """Fresh processes; the second one does not even know where the project is."""
    bundle = tmp_path / "bundle"
    reward = "artifacts/demo/reward/head"
    exported = [BIN / "python", "-m", "whale.cli", "export", "artifacts/demo/models/dynamics/full", "--as", "world"]
    exported += ["--to", str(bundle), "--reward", reward]
    done = subprocess.run(exported, cwd=project, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert {"statements.intoto.jsonl", "lineage.json", "calibration.json", "starts", "env.py"} <= set(
        os.listdir(bundle)
    )
    front = yaml.safe_load((bundle / "README.md").read_text().split("---\n")[1])
    assert (front["pipeline_tag"], front["license"]) == ("robotics", "apache-2.0")
    # The reward head goes out with the world: it learned from the shards that the world learned from, and no others.
    assert front["datasets"] == sorted(PRETRAIN)
    signed = (bundle / "statements.intoto.jsonl").read_text().splitlines()
    stages = [json.loads(base64.b64decode(json.loads(line)["payload"]))["predicate"] for line in signed]
    assert "train_reward" in json.dumps(stages)
    licences = json.loads((bundle / "licences.json").read_text())["datasets"]
    assert sorted(row["dataset"] for row in licences) == sorted(PRETRAIN)
    command = [BIN / "python", "-m", "whale.cli", "policy", "evaluate", "bundle", "--robot", "fleet_delta", "--json"]
    command += ["--policy", "behavior", "--policy", "still", "--episodes", "2", "--horizon", "5"]
    elsewhere = environment() | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    metrics = json.loads(found.stdout)
    assert metrics["policy.behavior.imagined"] is not None and metrics["trust_limit.source"].startswith("calibration")
    assert metrics["status"].startswith("no truth")


def test_the_readmes_example_runs_on_the_fine_tuned_world_exported_from_it(project, tmp_path):
    exported = [BIN / "python", "-m", "whale.cli", "export", "artifacts/demo/models/finetuned/dynamics/full"]
    exported += ["--as", "world", "--to", str(tmp_path / "world-bundle")]
    done = subprocess.run(exported, cwd=project, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (example,) = re.findall(r"```python\n(import whale\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    command = [BIN / "python", "-W", "ignore", "-c", example]
    elsewhere = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "fleet_unseen: delta actions in the base frame at 5 Hz" in done.stdout


def test_the_report_is_one_page_that_needs_no_network(project):
    page = (project / "artifacts/demo/report/index.html").read_text()
    assert "data:image/gif;base64," in page and "<svg" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)


def test_each_run_left_a_statement_whose_inputs_are_the_digests_of_what_it_read(project):
    entries = ledger.read(project / ledger.LEDGER)
    statements = [signing.verify(entry.envelope, project / signing.PUBLIC_KEYS) for entry in entries]
    assert len(statements) == 29
    tokenizer = hashlib.sha256((project / "artifacts/demo/models/tokenizer/MANIFEST.json").read_bytes()).hexdigest()
    users = [json.dumps(statement["predicate"]) for statement in statements]
    assert sum(tokenizer in user for user in users) >= 4


def lineage(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [BIN / "python", "-m", "whale.cli", "lineage", *arguments]
    return subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, timeout=1200)


def test_an_untouched_chain_is_complete_and_raises_no_alarm(project):
    for artefact in ("models/tokenizer", "models/finetuned/dynamics/full", "metrics/evaluate_video.json"):
        verified = lineage(project, "verify", f"artifacts/demo/{artefact}")
        assert verified.returncode == 0, verified.stdout + verified.stderr
    completeness = lineage(project, "completeness", "artifacts/demo/models/finetuned/dynamics/full")
    assert (completeness.returncode, "100.0 %" in completeness.stdout) == (0, True), completeness.stdout


def test_the_card_of_a_checkpoint_holds_its_own_numbers_and_no_other_variants(project):
    """As `model=` of their protocols says; a number of two models, their difference, stands in both cards."""
    card = lineage(project, "export", "artifacts/demo/models/finetuned/dynamics/full", "--format", "card")
    assert card.returncode == 0, card.stderr
    front = yaml.safe_load(card.stdout.split("---\n")[1])
    metrics = [each["metrics"][0] for each in front["model-index"][0]["results"]]
    keys = [metric["name"] for metric in metrics]
    assert all(key.startswith("finetune.fleet_unseen.") for key in keys)
    assert not [key for key in keys if ".dynamics.without_z." in key or ".dynamics.from_scratch." in key]
    recorded = json.loads((project / "artifacts/demo/metrics/evaluate_video.json").read_text())
    for key, value in recorded.items():
        if re.match(r"finetune\.fleet_unseen\..*\.dynamics\.full\.", key) and isinstance(value, int | float):
            assert key in keys
    assert all(metric["value"] == recorded[metric["name"]] for metric in metrics if metric["name"] in recorded)


def test_no_held_out_episode_looks_like_one_trained_on_and_the_shards_frames_are_read_for_that(project):
    full = "artifacts/demo/models/finetuned/dynamics/full"
    found = lineage(project, "leakage", full, "--eval", "fleet_delta:test", "--near", "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    itself = lineage(project, "leakage", full, "--eval", "fleet_delta:train", "--near", "--json")
    assert json.loads(itself.stdout)["near"] == []


def test_the_document_shows_what_the_commands_say(project, monkeypatch):
    monkeypatch.chdir(project)
    replay(transcript.DOCUMENT)


def replay(page: Path) -> None:
    for command, said in transcript.steps(page.read_text(encoding="ascii")):
        got = transcript.answer(command)
        assert transcript.agree(said, got), f"$ {command}\n{got}\nthe document says:\n{said}"


@pytest.mark.parametrize("page", ["mlflow.md", "dvc.md"])
def test_the_walks_through_mlflow_and_dvc_show_what_the_commands_say(project, page, tmp_path, monkeypatch):
    """In a copy with git, as a clone of this project has it."""
    shutil.copytree(project, tmp_path / "project", symlinks=True)
    shutil.copy(ROOT / ".gitattributes", tmp_path / "project")
    shutil.copy(ROOT / ".dvc/.gitignore", tmp_path / "project/.dvc")
    (tmp_path / "project/.dvc/config").write_text("[core]\n    analytics = false\n[cache]\n    type = hardlink\n")
    monkeypatch.chdir(tmp_path / "project")
    for name in [each for each in os.environ if each not in environment()]:
        monkeypatch.delenv(name)
    identity = {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for name, value in (environment() | identity | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    subprocess.run(["git", "add", "--all", ".", ":!lineage", ":!dvc.lock"], check=True)
    subprocess.run(["git", "commit", "-qm", "settings"], check=True)
    assert whale(["init"]) == 0
    replay(ROOT / "docs/how-to" / page)


@pytest.mark.parametrize("number", range(1, 17))
def test_each_of_the_sixteen_questions_is_answered_by_one_command(number):
    document = transcript.DOCUMENT.read_text(encoding="ascii")
    section = re.search(rf"^### Q{number}\. .*?(?=^##)", document, re.MULTILINE | re.DOTALL)
    assert section and transcript.steps(section[0])[0][0].startswith("whale lineage ")


def test_the_tokenizer_made_again_from_its_statement_has_the_same_bytes(project):
    again = lineage(project, "rederive", "train_tokenizer", "--run")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "the same bytes" in again.stdout


def test_one_changed_byte_of_real_weights_is_named(project):
    weights = project / "artifacts/demo/models/tokenizer/model.safetensors"
    original, mode = weights.read_bytes(), weights.stat().st_mode
    weights.unlink()  # a hard link into DVC's cache: write another file, not the cache
    try:
        weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        verified = lineage(project, "verify", "artifacts/demo/models/finetuned/dynamics/full")
        assert verified.returncode == 1
        assert "models/tokenizer/model.safetensors" in verified.stdout
    finally:
        weights.unlink()
        weights.write_bytes(original)
        weights.chmod(mode)


def test_stages_that_run_again_make_the_same_bytes(project):
    """Data, training and evaluation, each from its inputs alone; resume state is out of the way."""
    again = ["ingest@fleet_absolute", "train_tokenizer", "pretokenize@fleet_delta", "train_dynamics@full"]
    again += ["evaluate_video"]
    before = digests(project / "artifacts")
    shutil.rmtree(project / "work/demo")
    for stage in again:
        dvc(project, "repro", "-f", "-s", stage)
    assert digests(project / "artifacts") == before


def test_a_training_stage_killed_with_dvc_continues_from_a_saved_step_and_ends_in_the_same_bytes(project):
    out = project / "artifacts/demo/models/dynamics/without_z"
    before = digests(out)
    work = project / "work/demo/train_dynamics@without_z"
    shutil.rmtree(work, ignore_errors=True)
    command = [BIN / "dvc", "repro", "-f", "-s", "train_dynamics@without_z"]
    running = subprocess.Popen(command, cwd=project, env=environment(), stdout=-3, stderr=-3)
    deadline = time.monotonic() + 600
    while not list(work.glob("*/states/step-*")) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_until_free(project)
    assert not out.exists() or (out / "MANIFEST.json").is_file()
    said = dvc(project, "repro", "-f", "-s", "train_dynamics@without_z")
    assert re.search(r"continued from saved step \d+ of 12", said)
    assert digests(out) == before


def test_a_wrong_key_ends_with_one_message_that_names_it(project):
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("max_bad: 0", "max_bda: 0"))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "whale.run", "ingest", "--item", "fleet_delta", "--raw", "x", "--out", "y"],
            cwd=project,
            env=environment(),
            capture_output=True,
            text=True,
        )
    finally:
        (project / "params.yaml").write_text(params)
    assert done.returncode == 64
    assert "ingest.max_bda" in done.stderr and "params.yaml" in done.stderr and "Traceback" not in done.stderr
