"""Each export is accepted by a stock validator of somebody else, and a tampered one is rejected."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy_chain import ART, FINAL

from whale.audit.exports.bundle import prove
from whale.audit.exports.formats import FORMATS, export
from whale.audit.runs import RunGraph
from whale.cli import run as whale


def exported(form: str, folder: Path = FINAL):
    graph = RunGraph.load()
    return export(graph.find(str(folder)), graph, form)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "croissant"])
def test_an_export_is_a_function_of_the_ledger_and_a_forged_one_is_found(chain, form):
    """T16."""
    assert exported(form) == exported(form)
    file = Path("export.json")
    assert whale(["lineage", "export", str(FINAL), "--format", form, "-o", str(file)]) == 0
    assert whale(["lineage", "export", str(FINAL), "--format", form, "--check", str(file)]) == 0
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1))
    assert whale(["lineage", "export", str(FINAL), "--format", form, "--check", str(file)]) == 1


def test_statements_are_accepted_by_in_toto_attestation_and_one_without_digest_is_not(chain):
    statement_module = pytest.importorskip("in_toto_attestation.v1.statement")
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2

    lines = exported("intoto").decode().splitlines()
    assert len(lines) == 10
    for line in lines:
        payload = base64.b64decode(json.loads(line)["payload"])
        message = json_format.Parse(payload, statement_pb2.Statement())
        statement_module.Statement.copy_from_pb(message).validate()
        provenance = json_format.MessageToDict(message)["predicate"]
        json_format.ParseDict(provenance, provenance_pb2.Provenance())  # strict: no unknown field
    broken = json.loads(payload)
    del broken["subject"][0]["digest"]
    with pytest.raises(ValueError):
        message = json_format.ParseDict(broken, statement_pb2.Statement())
        statement_module.Statement.copy_from_pb(message).validate()


def test_the_bill_of_materials_is_accepted_by_cyclonedx_and_a_wrong_one_is_not(chain):
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    document = json.loads(exported("cyclonedx"))
    assert validator.validate_str(json.dumps(document)) is None
    assert {each["name"] for each in document["components"]} >= {"alpha", "beta", "gamma"}
    document["components"][0]["hashes"][0]["content"] = "not a digest"
    assert validator.validate_str(json.dumps(document)) is not None


def test_provenance_is_read_by_prov_without_loss_and_names_without_a_prefix_are_not(chain):
    model = pytest.importorskip("prov.model")
    text = exported("prov").decode()
    document = model.ProvDocument.deserialize(content=text, format="json")
    again = model.ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
    assert again == document
    assert len(list(document.get_records(model.ProvActivity))) == 10
    broken = json.loads(text)
    del broken["prefix"]
    with pytest.raises(Exception):  # noqa: B017 - the parser's own error
        model.ProvDocument.deserialize(content=json.dumps(broken), format="json")


def test_run_events_are_accepted_by_openlineage_and_a_run_without_uuid_is_not(chain):
    events = pytest.importorskip("openlineage.client.event_v2")
    for each in json.loads(exported("openlineage")):
        make_event(events, each)
    each["run"]["runId"] = "the last one"
    with pytest.raises(ValueError):
        make_event(events, each)


def make_event(events, row: dict):
    """Through the constructors of openlineage-python, which check their fields."""
    return events.RunEvent(
        eventType=events.RunState(row["eventType"]),
        eventTime=row["eventTime"],
        run=events.Run(runId=row["run"]["runId"]),
        job=events.Job(namespace=row["job"]["namespace"], name=row["job"]["name"]),
        inputs=[events.InputDataset(namespace=each["namespace"], name=each["name"]) for each in row["inputs"]],
        outputs=[events.OutputDataset(namespace=each["namespace"], name=each["name"]) for each in row["outputs"]],
        producer=row["producer"],
    )


def test_a_dataset_is_read_by_mlcroissant_and_a_file_edited_afterwards_is_not(chain):
    croissant = pytest.importorskip("mlcroissant")
    folder = ART / "pretrain/shards/alpha"
    copy = Path("copy")
    shutil.copytree(folder, copy)
    (copy / "croissant.json").write_bytes(exported("croissant", folder))
    rows = list(croissant.Dataset(str(copy / "croissant.json")).records("episodes"))
    assert len(rows) == 9 and {row["episodes/kept"] for row in rows} == {True, False}
    flipped = bytearray((copy / "episodes.parquet").read_bytes())
    flipped[10] ^= 1
    (copy / "episodes.parquet").write_bytes(flipped)
    with pytest.raises(Exception, match=r"Download\(episodes"):
        list(croissant.Dataset(str(copy / "croissant.json")).records("episodes"))
    document = json.loads((copy / "croissant.json").read_text())
    document["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "nowhere"
    (copy / "croissant.json").write_text(json.dumps(document))
    with pytest.raises(croissant.ValidationError):
        croissant.Dataset(str(copy / "croissant.json"))


def test_a_bundle_verifies_elsewhere_with_stock_tools_and_a_flipped_byte_in_it_is_rejected(
    chain, tmp_path, monkeypatch
):
    pytest.importorskip("model_signing")
    graph = RunGraph.load()
    bundle = tmp_path / "bundle"
    prove(graph.find(str(FINAL)), graph, bundle)
    monkeypatch.chdir(bundle)
    check = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    verify = [sys.executable, "-m", "model_signing", "verify", "key", "artefact"]
    verify += ["--signature", "model.sig", "--public_key", "public.pem"]
    assert subprocess.run(check).returncode == 0
    done = subprocess.run(verify, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    weights = Path("artefact/model.safetensors")
    payload = bytearray(weights.read_bytes())
    payload[-1] ^= 1
    weights.write_bytes(payload)
    assert subprocess.run(check, capture_output=True).returncode == 1
    assert subprocess.run(verify, capture_output=True).returncode != 0
