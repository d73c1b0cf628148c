"""What a checkpoint owes: every dataset is named, and a term that binds is never left out."""

import json
from pathlib import Path

import pytest
from toy_chain import FINAL

from whale.audit.questions.obligations import attribution, kinds_of
from whale.cli import run as whale
from whale.common.config import load_yaml
from whale.data.spec.spec import load_spec

SPECS = Path(__file__).parents[3] / "data_specs"


def licence(spdx, evidence="read", url="https://x.org", citation="me2024"):
    return {"spdx": spdx, "evidence": evidence, "url": url, "citation": citation}


@pytest.mark.parametrize(
    ("spdx", "kinds"),
    [
        ("CC-BY-4.0", ["attribution"]),
        ("CC-BY-NC-4.0", ["non_commercial", "attribution"]),
        ("CC-BY-NC-SA-4.0", ["non_commercial", "share_alike", "attribution"]),
        ("CC-BY-ND-4.0", ["no_derivatives", "attribution"]),
        ("CC0-1.0", []),
        ("MIT", ["attribution", "licence_text"]),
        ("Apache-2.0", ["attribution", "licence_text"]),
        ("GPL-3.0-only", ["share_alike", "attribution", "licence_text"]),
        ("LicenseRef-unverified", ["unknown", "attribution"]),
        ("", ["unknown", "attribution"]),
    ],
)
def test_what_a_licence_asks_for(spdx, kinds):
    assert kinds_of(licence(spdx)) == kinds


@pytest.mark.parametrize("evidence", ["unverified", "", "none kept"])
def test_terms_that_nobody_has_read_are_called_so(evidence):
    assert "unread" in kinds_of(licence("CC-BY-4.0", evidence))


def test_an_attribution_names_title_maker_source_licence_and_changes():
    text = attribution("toto", "0.1.0", licence("CC-BY-NC-4.0"))
    assert text.startswith("toto 0.1.0 [me2024] from https://x.org, licensed under CC-BY-NC-4.0 (")
    assert "https://creativecommons.org/licenses/by-nc/4.0/" in text and "Changes: " in text


def test_of_the_27_datasets_two_have_unknown_terms_and_three_are_unread():
    names = load_yaml(SPECS / "mixtures" / "oxe.yaml")["datasets"]
    kinds = {name: kinds_of(load_spec(name, SPECS).licence.model_dump()) for name in names}
    assert {name for name in names if "unknown" in kinds[name]} == {"fmb_dataset", "dobbe"}
    assert {name for name in names if "unread" in kinds[name]} == {"fmb_dataset", "dobbe", "bridge_orig"}
    assert all("attribution" in each for each in kinds.values())


def test_the_report_goes_out_with_the_checkpoint_and_as_a_document(chain, capsys):
    assert whale(["export", str(FINAL), "--to", "handed_on"]) == 0
    report = Path("handed_on/OBLIGATIONS.md").read_text()
    assert all(name in report for name in ("alpha", "beta", "gamma"))
    assert whale(["lineage", "export", str(FINAL), "--format", "obligations", "-o", "report.md"]) == 0
    assert Path("report.md").read_text() == report


def test_a_policy_keeps_a_checkpoint_in_the_house(chain, capsys):
    Path("policy.yaml").write_text("allow: [MIT]\n")
    assert whale(["export", str(FINAL), "--to", "handed_on", "--policy", "policy.yaml"]) == 3
    assert "alpha" in capsys.readouterr().err and not Path("handed_on").exists()
    spdx = json.dumps(load_yaml_of_chain())
    Path("policy.yaml").write_text(f"allow: {spdx}\n")
    assert whale(["export", str(FINAL), "--to", "handed_on", "--policy", "policy.yaml"]) == 0


def load_yaml_of_chain():
    """Every SPDX id of the toy chain's specs."""
    return sorted({load_yaml(path)["licence"]["spdx"] for path in Path("data_specs").glob("*.yaml")})
