"""What the Hugging Face hub reads of the cards of exported folders."""

import json
from pathlib import Path

import pytest
import yaml
from toy_chain import ART, FINAL

from whale.audit.exports.hub import LICENCES, _licence
from whale.cli import run as whale

READ, UNREAD = "read on 2026-01-01", "unverified"


def front_of(folder: Path, *options: str) -> dict:
    out = Path("handed_on")
    assert whale(["export", str(folder), "--to", str(out), *options]) == 0
    assert {row["dataset"] for row in json.loads((out / LICENCES).read_text())["datasets"]}
    return yaml.safe_load((out / "README.md").read_text().split("---\n")[1])


@pytest.mark.parametrize("options", [(), ("--as", "lerobot")])
def test_a_fine_tuned_checkpoint_names_task_licence_datasets_and_what_it_was_tuned_from(chain, options):
    front = front_of(FINAL, *options)
    assert front["pipeline_tag"] == "robotics" and front["library_name"] == "whale-world-model"
    assert front["license"] == "apache-2.0" and front["datasets"] == ["alpha", "beta", "gamma"]
    assert (front["base_model"], front["base_model_relation"]) == (["demo-dynamics-full"], "finetune")


def test_a_pretrained_checkpoint_has_no_base_model(chain):
    front = front_of(ART / "models/dynamics/full")
    assert front["pipeline_tag"] == "robotics" and not front.keys() & {"base_model", "base_model_relation"}


@pytest.mark.parametrize(
    ("licences", "name"),
    [
        ([("CC-BY-4.0", READ), ("MIT", READ)], "cc-by-4.0-and-mit"),
        ([("CC-BY-4.0", UNREAD)], "cc-by-4.0-unverified"),
        ([("Ours-1.0", READ)], "ours-1.0"),
        ([(None, None)], "unknown-unverified"),
        ([], "unknown"),
    ],
)
def test_what_is_no_one_read_licence_that_the_hub_knows_is_other_with_a_name_and_a_link(licences, name):
    found = _licence([{"spdx": spdx, "evidence": evidence} for spdx, evidence in licences])
    assert found == {"license": "other", "license_name": name, "license_link": LICENCES}


def test_datasets_of_one_licence_that_somebody_read_give_it_in_the_hubs_spelling():
    assert _licence([{"spdx": "CC-BY-4.0", "evidence": READ}] * 2) == {"license": "cc-by-4.0"}
