"""Do the licences of everything that a checkpoint was made from allow a use (Q4)? A policy is a small YAML file, or a
list of SPDX ids on the command line.

    allow: [Apache-2.0, CC-BY-4.0, MIT]     # SPDX ids; anything else is refused
    require_evidence: true                  # and somebody must have read the terms

Without a policy: nothing non-commercial, nothing without derivatives, nothing unknown.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whale.audit.facts import datasets_of
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.config import Config
from whale.common.errors import ConfigError

UNREAD = ("", "none", "unverified", "unknown")
RESTRICTED = ("-NC", "-ND", "NONCOMMERCIAL", "UNVERIFIED", "UNKNOWN", "NOASSERTION", "PROPRIETARY")


class LicencePolicy(Config):
    """`allow`: None means every SPDX id that is neither restricted nor unknown."""

    allow: list[str] | None = None
    require_evidence: bool = False


def load_policy(path: Path | None) -> LicencePolicy:
    from whale.common.config import load_yaml

    return LicencePolicy() if path is None else LicencePolicy.parse(load_yaml(path), file=path)


def allowing(ids: str) -> LicencePolicy:
    """The policy of `--allow-licenses`: SPDX ids with commas between. ConfigError if there is none."""
    allow = [word.strip() for word in ids.split(",") if word.strip()]
    if not allow:
        raise ConfigError("no licence is allowed", place="--allow-licenses", found=ids, expected="Apache-2.0,CC-BY-4.0")
    return LicencePolicy(allow=allow)


def licences(run: StageRun, graph: RunGraph, policy: LicencePolicy, beside: Iterable[StageRun] = ()) -> dict[str, Any]:
    """A row per dataset above `run`, or above one of those `beside` it, with its verdict; `refused` lists the names
    that the policy does not let through."""
    rows = []
    for dataset in datasets_of(run, graph, beside):
        licence = dataset.summary["licence"]
        rows.append(
            {
                "dataset": dataset.name,
                "spdx": licence["spdx"],
                "url": licence["url"],
                "evidence": licence["evidence"],
                "citation": licence["citation"],
                "refused": refusal(licence, policy),
            }
        )
    return {"datasets": rows, "refused": [row["dataset"] for row in rows if row["refused"]]}


def refusal(licence: dict[str, Any], policy: LicencePolicy) -> str | None:
    """Why the policy refuses a licence; None if it does not."""
    spdx = str(licence["spdx"] or "unknown")
    if policy.allow is not None and spdx not in policy.allow:
        return f"{spdx} is not in the policy's list"
    if policy.allow is None and any(word in spdx.upper() for word in RESTRICTED):
        return f"{spdx} restricts use, or nobody knows it"
    if policy.require_evidence and str(licence["evidence"]).strip().lower() in UNREAD:
        return "nobody has read the terms (evidence: unverified)"
    return None
