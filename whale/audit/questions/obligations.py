"""What somebody who hands on a checkpoint owes the makers of its data: texts to copy, terms that bind, what is unread.

Read off the SPDX ids, links and citations that the specs gave and the ledger keeps. It is no legal advice: whether
weights are adapted material nobody has settled; the report takes the side that asks for more.
"""

from collections.abc import Iterable
from typing import Any

from whale.audit.facts import datasets_of
from whale.audit.questions.licences import RESTRICTED, UNREAD, LicencePolicy, refusal
from whale.audit.run_graph import RunGraph, StageRun, Target

DEEDS = "https://creativecommons.org/licenses/"
CHANGES = "frames resized and encoded anew, actions brought to one form, episodes filtered; used to train this model"
WITH_TEXT = ("MIT", "BSD-", "Apache-", "ISC")  # their text and notices must go along
WITHOUT = ("CC0-1.0", "Unlicense", "PDDL-1.0", "0BSD")  # ask for nothing
KINDS = {
    "non_commercial": "Not for commercial use",
    "no_derivatives": "No adapted material may be shared: ask the makers whether weights are that",
    "share_alike": "What is made of it goes out under the same terms",
    "unknown": "Terms unknown: find them, or train without",
    "unread": "Nobody has read the terms: what stands here is hearsay",
    "attribution": "To be named: copy these lines",
    "licence_text": "Licence text and notices go along",
}


def kinds_of(licence: dict[str, Any]) -> list[str]:
    """Keys of KINDS that a licence brings along. An id that is not known to be free of something asks for it."""
    spdx, evidence = str(licence["spdx"] or "unknown"), str(licence["evidence"]).strip().lower()
    upper = spdx.upper()
    found = {
        "non_commercial": "-NC" in upper or "NONCOMMERCIAL" in upper,
        "no_derivatives": "-ND" in upper,
        "share_alike": "-SA" in upper or "GPL" in upper or upper.startswith("ODBL"),
        "unknown": any(word in upper for word in RESTRICTED if not word.startswith("-") and word != "NONCOMMERCIAL"),
        "unread": evidence in UNREAD or evidence.startswith("none "),
        "attribution": spdx not in WITHOUT,
        "licence_text": spdx.startswith(WITH_TEXT) or "GPL" in upper,
    }
    return [kind for kind in KINDS if found[kind]]


def attribution(dataset: str, version: str, licence: dict[str, Any]) -> str:
    """Maker, title, source, licence and changes, as CC BY 4.0 section 3(a)(1) asks for them."""
    spdx = str(licence["spdx"] or "unknown")
    parts = [f"{dataset} {version}"]
    parts += [f"[{licence['citation']}]"] if licence["citation"] not in ("", "none", None) else []
    parts += [f"from {licence['url']}"] if licence["url"] else []
    return f"{' '.join(parts)}, licensed under {spdx}{_deed(spdx)}. Changes: {CHANGES}."


def obligations(
    target: Target, graph: RunGraph, policy: LicencePolicy, beside: Iterable[StageRun] = ()
) -> dict[str, Any]:
    """A row per dataset behind `target`, and behind what goes out `beside` it; `kinds`: obligation -> names of
    datasets; `refused`: those of the policy."""
    rows: dict[str, dict[str, Any]] = {}
    for dataset in datasets_of(target.run, graph, beside):
        licence = dataset.summary["licence"]
        rows[dataset.name] = {
            "dataset": dataset.name,
            "spdx": licence["spdx"] or "unknown",
            "evidence": licence["evidence"],
            "kinds": kinds_of(licence),
            "attribution": attribution(dataset.name, dataset.summary["upstream"]["version"], licence),
            "refused": refusal(licence, policy),
        }
    kinds = {kind: [name for name, row in rows.items() if kind in row["kinds"]] for kind in KINDS}
    return {
        "artefact": target.run.name,
        "datasets": list(rows.values()),
        "kinds": {kind: names for kind, names in kinds.items() if names},
        "refused": [name for name, row in rows.items() if row["refused"]],
    }


def as_markdown(found: dict[str, Any]) -> str:
    """The report for people, ASCII."""
    rows = {row["dataset"]: row for row in found["datasets"]}
    lines = [f"# What {found['artefact']} owes", "", f"Made from {len(rows)} datasets. No legal advice.", ""]
    for kind, names in found["kinds"].items():
        lines += [f"## {KINDS[kind]}", ""]
        for name in names:
            row = rows[name]
            said = (
                row["attribution"] if kind == "attribution" else f"{name}: {row['spdx']}, evidence: {row['evidence']}"
            )
            lines.append(f"- {' '.join(said.split())}")
        lines.append("")
    return "\n".join(lines).encode("ascii", "backslashreplace").decode()


def _deed(spdx: str) -> str:
    """` (link)` of a Creative Commons licence: CC-BY-NC-4.0 -> .../by-nc/4.0/."""
    words = spdx.lower().split("-")
    if words[0] != "cc" or len(words) < 3:
        return ""
    return f" ({DEEDS}{'-'.join(words[1:-1])}/{words[-1]}/)"
