"""`whale export`: the folder holds the checkpoint as signed, and what was found out about it since."""

import json
from pathlib import Path

import pytest
from toy_chain import FINAL

from whale.cli import run as whale
from whale.common.files import sha256_of_file
from whale.seal import verify_sealed

OUT = Path("handed_on")


def test_the_folder_holds_the_weights_evaluations_with_protocols_licences_and_statements(chain):
    assert whale(["export", str(FINAL), "--to", str(OUT)]) == 0
    verify_sealed(OUT, sha256_of_file)
    assert (OUT / "model.safetensors").read_bytes() == (FINAL / "model.safetensors").read_bytes()
    assert (OUT / "published.json").read_bytes() == (FINAL / "MANIFEST.json").read_bytes()
    metrics = json.loads((OUT / "evaluations/evaluate_video.json").read_text())
    assert metrics["finetune"]["gamma"]["test"]["psnr"] == 21.5
    card = (OUT / "README.md").read_text()
    assert "metric=psnr|data=gamma/test|resolution=16|model=" in card and "| alpha | " in card
    assert {row["dataset"] for row in json.loads((OUT / "licences.json").read_text())["datasets"]} == {
        "alpha",
        "beta",
        "gamma",
    }
    assert len((OUT / "statements.intoto.jsonl").read_text().splitlines()) == 10


def test_a_checkpoint_that_is_not_as_signed_is_not_handed_on(chain, capsys):
    weights = FINAL / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert whale(["export", str(FINAL), "--to", str(OUT)]) == 1
    assert "model.safetensors" in capsys.readouterr().err and not OUT.exists()


def test_no_bundle_proves_bytes_that_nobody_signed(chain, capsys):
    weights = FINAL / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert whale(["lineage", "prove", str(FINAL), "-o", str(OUT)]) == 1
    assert "model.safetensors" in capsys.readouterr().err and not OUT.exists()


@pytest.mark.parametrize(("artefact", "code"), [("mix", 0), ("artifacts/demo/metrics/evaluate_video.json", 64)])
def test_only_sealed_folders_are_handed_on_and_never_over_something(chain, artefact, code):
    assert whale(["export", artefact, "--to", str(OUT)]) == code
    OUT.mkdir(exist_ok=True)
    assert whale(["export", str(FINAL), "--to", str(OUT)]) == 73
