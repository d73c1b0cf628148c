"""Each export is accepted by a stock validator of somebody else, and a tampered one is rejected."""

import base64
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from toy_chain import ART, FINAL, METRICS

from whale.audit.exports.bundle import prove
from whale.audit.exports.evaluations import model_names, numbers_of
from whale.audit.exports.formats import FORMATS, export
from whale.audit.run_graph import RunGraph
from whale.cli import run as whale
from whale.common.files import sha256_of_file
from whale.evaluation.numbers.protocol import model_name

ROOT = Path(__file__).parents[3]
VALIDATORS = ROOT / ".venv" / "validators"


def exported(form: str, folder: Path = FINAL) -> bytes:
    graph = RunGraph.load()
    return export(graph.find(str(folder)), graph, form)


def validate(form: str, *files: Path) -> list[str | None]:
    """What the stock validator says of each file: None, or why it rejects it."""
    assert VALIDATORS.is_dir(), f"{VALIDATORS} is missing: `make validators` installs the stock validators"
    environment = os.environ | {"PYTHONPATH": str(VALIDATORS)}
    command = [sys.executable, ROOT / "tests" / "stock_validators.py", form, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def judge(form: str, accepted: object, *rejected: object) -> list[str]:
    """Accepted is accepted; returns why each other document is rejected, and fails if one is not."""
    files = []
    for number, document in enumerate((accepted, *rejected)):
        files.append(Path(f"{form}-{number}.json"))
        files[-1].write_text(document if isinstance(document, str) else json.dumps(document))
    good, *bad = validate(form, *files)
    assert good is None and None not in bad, (good, bad)
    return bad


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ("croissant", "model-signing")])
def test_an_export_is_a_function_of_the_ledger_and_a_forged_one_is_found(chain, form, capsys):
    file = Path("export.json")
    assert whale(["lineage", "export", str(FINAL), "--format", form, "-o", str(file)]) == 0
    assert whale(["lineage", "export", str(FINAL), "--format", form, "--check", str(file)]) == 0
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1))
    assert whale(["lineage", "export", str(FINAL), "--format", form, "--check", str(file)]) == 1
    assert "export.json" in capsys.readouterr().err


def test_statements_are_accepted_by_in_toto_attestation_and_without_digest_or_with_a_strange_field_are_not(chain):
    text = exported("intoto").decode()
    assert len(text.splitlines()) == 10

    def forged(change) -> str:
        envelope = json.loads(text.splitlines()[-1])
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        return json.dumps(envelope)

    without = forged(lambda statement: statement["subject"][0].pop("digest"))
    strange = forged(lambda statement: statement["predicate"].update(bespoke=1))
    judge("intoto", text, without, strange)


def test_the_bill_of_materials_is_accepted_by_cyclonedx_and_with_a_wrong_digest_is_not(chain):
    document = json.loads(exported("cyclonedx"))
    assert {each["name"] for each in document["components"]} >= {"alpha", "beta", "gamma"}
    wrong = json.loads(exported("cyclonedx"))
    wrong["components"][0]["hashes"][0]["content"] = "not a digest"
    judge("cyclonedx", document, wrong)


def test_provenance_is_read_by_prov_without_loss_and_names_without_a_prefix_are_not(chain):
    document = json.loads(exported("prov"))
    assert len(document["activity"]) == 10
    judge("prov", document, {key: value for key, value in document.items() if key != "prefix"})


def test_run_events_are_accepted_by_openlineage_and_with_another_id_or_a_lost_facet_are_not(chain):
    events = exported("openlineage").decode()
    strange_kind, loss = (json.loads(events) for _ in range(2))
    strange_kind[0]["eventType"] = "DONE"
    loss[-1]["outputs"][0]["facets"]["version"]["_schemaURL"] = "https://example.org/other"
    judge("openlineage", events, strange_kind, loss)


def test_run_events_follow_the_specification_of_openlineage_and_tampered_ones_are_named(chain):
    events = exported("openlineage").decode()
    changes = {
        "'the last one' is not a 'uuid'": lambda event: event["run"].update(runId="the last one"),
        "'2026-11-25' is not a 'date-time'": lambda event: event.update(eventTime="2026-11-25"),
        "'not a uri' is not a 'uri'": lambda event: event.update(producer="not a uri"),
        "'schemaURL' is a required property": lambda event: event.pop("schemaURL"),
        "'name' is a required property": lambda event: event["job"].pop("name"),
        "'_producer' is a required": lambda event: event["outputs"][0]["facets"]["version"].pop("_producer"),
        "'datasetVersion' is a required": lambda event: event["outputs"][0]["facets"]["version"].pop("datasetVersion"),
        "7 is not of type 'string'": lambda event: event["outputs"][0].update(namespace=7),
    }
    tampered = []
    for change in changes.values():
        tampered.append(json.loads(events))
        change(tampered[-1][-1])
    verdicts = judge("openlineage", events, *tampered)
    for expected, verdict in zip(changes, verdicts, strict=True):
        assert verdict.startswith("ValidationError") and expected in verdict


def test_a_dataset_is_read_by_mlcroissant_and_with_a_file_edited_afterwards_or_a_dangling_name_is_not(chain):
    folder = ART / "data/pretrain/shards/alpha"
    document = exported("croissant", folder).decode()
    dangling = json.loads(document)
    dangling["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "nowhere"
    for name in ("good", "flipped", "dangling"):
        shutil.copytree(folder, name)
        Path(name, "croissant.json").write_text(json.dumps(dangling) if name == "dangling" else document)
    flipped = bytearray(Path("flipped/episodes.parquet").read_bytes())
    flipped[10] ^= 1
    Path("flipped/episodes.parquet").write_bytes(flipped)
    files = [Path(name, "croissant.json") for name in ("good", "flipped", "dangling")]
    good, edited, lost = validate("croissant", *files)
    assert good is None and "episodes" in edited and "ValidationError" in lost


def test_a_bundle_verifies_elsewhere_with_stock_tools_and_with_a_flipped_byte_is_rejected(chain, tmp_path, monkeypatch):
    graph = RunGraph.load()
    bundle, forged = tmp_path / "bundle", tmp_path / "forged"
    prove(graph.find(str(FINAL)), graph, bundle)
    shutil.copytree(bundle, forged)
    weights = forged / "artefact/model.safetensors"
    payload = bytearray(weights.read_bytes())
    payload[-1] ^= 1
    weights.write_bytes(payload)
    added = tmp_path / "added"
    shutil.copytree(bundle, added)
    (added / "artefact/more").write_text("x")
    check = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    codes = [subprocess.run(check, cwd=each, capture_output=True).returncode for each in (bundle, forged)]
    assert codes == [0, 1]
    verdicts = validate("model_signing", *(each / "model.sig" for each in (bundle, forged, added)))
    assert verdicts[0] is None and "model.safetensors" in verdicts[1] and "more" in verdicts[2]
    statements = bundle / "statements.intoto.jsonl"
    assert validate("intoto", statements) == [None]


def model_signing_cli(folder: Path, signature: Path, key: Path) -> subprocess.CompletedProcess:
    """`model_signing verify key`, as a person would type it."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", folder, "--signature", signature]
    environment = os.environ | {"PYTHONPATH": str(VALIDATORS)}
    return subprocess.run(
        [*command, "--public_key", key], env=environment, capture_output=True, text=True, timeout=1200
    )


def test_a_signature_of_the_checkpoint_is_accepted_by_the_stock_command_and_for_other_bytes_is_not(chain):
    assert whale(["lineage", "export", str(FINAL), "--format", "model-signing", "-o", "model.sig"]) == 0
    (key,) = Path("lineage/keys").glob("*.pub")
    assert (done := model_signing_cli(FINAL, Path("model.sig"), key)).returncode == 0, done.stderr
    other = ART / "models/dynamics/full"
    assert model_signing_cli(other, Path("model.sig"), key).returncode != 0
    shutil.copytree(FINAL, "edited")
    weights = Path("edited/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    done = model_signing_cli(Path("edited"), Path("model.sig"), key)
    assert done.returncode != 0 and "model.safetensors" in done.stdout + done.stderr


def test_a_signature_is_held_against_folder_and_keys_and_nothing_unsigned_is_signed(chain, capsys):
    check = ["lineage", "export", str(FINAL), "--format", "model-signing", "--check", "model.sig"]
    assert whale(["lineage", "export", str(FINAL), "--format", "model-signing", "-o", "model.sig"]) == 0
    assert whale(check) == 0
    bundle = json.loads(Path("model.sig").read_text())
    payload = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload[payload.index(b'"digest":"') + 12] ^= 1
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    Path("model.sig").write_text(json.dumps(bundle))
    assert whale(check) == 1 and "model.sig" in capsys.readouterr().err
    base = str(ART / "models/dynamics/full")
    assert whale(["lineage", "export", base, "--format", "model-signing", "-o", "model.sig"]) == 0
    assert whale(check) == 1 and "signed for other files" in capsys.readouterr().err
    assert whale(["lineage", "export", str(METRICS), "--format", "model-signing"]) == 64
    (FINAL / "config.json").write_text("{}")
    for form in ("model-signing", "card"):
        assert whale(["lineage", "export", str(FINAL), "--format", form, "-o", "more"]) == 1
    assert not Path("more").exists()


def test_the_model_card_is_read_by_huggingface_hub_with_each_number_and_a_tampered_one_is_not(chain):
    text = exported("card").decode()
    front = yaml.safe_load(text.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"] == {"type": "gamma", "name": "gamma", "split": "test"}
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("psnr", 21.5) and "data=gamma/test" in metric["args"]["protocol"]
    assert "| alpha | Apache-2.0 | made here | none |" in text and "19.25" not in text
    no_task, no_name = text.replace("pipeline_tag: robotics\n", ""), text.replace("- demo-dynamics", "- demo dynamics")
    del result["dataset"]["type"]
    lost = "---\n" + yaml.safe_dump(front) + "---\n# no dataset\n"
    judge("card", text, lost, text.replace("---\n", "---\n: broken [", 1), no_task, no_name)


def test_a_number_belongs_to_the_models_that_its_protocol_names(chain):
    graph = RunGraph.load()
    dynamics = graph.find(str(ART / "models/dynamics/full")).run
    rssm = replace(dynamics, stage="train_rssm")  # one network alone, which evaluate_video names by its weights
    assert model_names(rssm, [dynamics]) == {sha256_of_file(ART / "models/dynamics/full/model.safetensors")[:16]}
    alone = model_name([sha256_of_file(ART / "models/dynamics/full/model.safetensors")])
    assert alone in model_names(dynamics, []) and alone not in model_names(
        graph.find(str(ART / "models/tokenizer")).run, []
    )
    tokenizer = json.dumps(exported("card", ART / "models/tokenizer").decode())
    assert "21.5" in tokenizer and "19.25" not in tokenizer
    assert [each.value for each in numbers_of(graph.find(str(ART / "models/dynamics/full")), graph)] == []
