"""The files that rule a pipeline, against what the ledger saw: params.yaml, specs, constraints, dvc.lock.

Two laws. Every byte of such a file was seen by some signed run (an edit that no stage has run with is reported). And
the sections that an artefact's own ancestors used still say the same (a weight edited after training is reported).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from whale.audit.checks.findings import Finding
from whale.audit.checks.lock_text import params_in_lock
from whale.audit.run_graph import StageRun
from whale.common.config import load_yaml
from whale.common.errors import ConfigError
from whale.common.files import sha256_of_file
from whale.lineage.statement import floats_as_text

PARAMS = "params.yaml"
ABSENT = "(absent)"
REMEDY = "take the edit to {} back; or `dvc repro`, which makes anew what follows from it"


def check_settings(ancestors: list[StageRun], runs: list[StageRun], target: StageRun) -> Iterator[Finding]:
    """Findings on every settings file that an ancestor used."""
    used = {name for run in ancestors for name in run.settings}
    params = settings_file(PARAMS, target)
    edits, are_all = _edited_values(ancestors, params) if PARAMS in used and params.is_file() else ([], False)
    yield from edits
    for name in sorted(used):
        path = params if name == PARAMS else Path(name)
        seen = [run.settings[name] for run in runs if name in run.settings]
        if not path.is_file():
            yield Finding("missing", "settings", "a file that this was made with is gone", str(path))
        elif (digest := sha256_of_file(path)) not in seen and not (are_all and edits and path == params):
            same = "; all values that this was made with are the same" if are_all and path == params else ""
            what = f"no run of the ledger has seen these bytes{same}"
            remedy = f"take the edit to {path} back, or run a stage with it"
            last = seen[-1] if seen else None
            yield Finding("edited", "settings", what, str(path), digest, last, remedy)


def settings_file(name: str, target: StageRun) -> Path:
    """params.yaml is the active profile; another profile's artefacts are held against profiles/<profile>.yaml."""
    if name != PARAMS or not Path(PARAMS).is_file():
        return Path(name)
    own = target.internal.get("profile")
    try:
        active = load_yaml(PARAMS).get("profile")
    except (ConfigError, AttributeError):
        return Path(name)
    is_other = active != own and Path(f"profiles/{active}.yaml").is_file() and Path(f"profiles/{own}.yaml").is_file()
    return Path(f"profiles/{own}.yaml") if is_other else Path(name)


def _edited_values(ancestors: list[StageRun], path: Path) -> tuple[list[Finding], bool]:
    """Each value that differs from what runs had, once, with the names of those runs; whether they are all there are.

    A run's record has every default, so it cannot tell a value that was removed from one that was never written. What
    was written stands in dvc.lock, which is believed where it agrees with the record.
    """
    try:
        values = load_yaml(path)
    except ConfigError as error:
        return [Finding.of("settings", error)], False
    noted = params_in_lock(PARAMS)
    edits: dict[tuple[str, str, str], list[str]] = {}
    is_all = True
    for run in ancestors:
        for section, recorded in run.params.items():
            if section == "spec":
                continue
            found: Any = values.get(section) if isinstance(values, Mapping) else None
            place = f"{section}.{run.item}" if _is_item(found, section, run) else section
            now = floats_as_text(found[run.item] if place != section else found)
            written = floats_as_text(noted.get(run.name, {}).get(place))
            is_noted = written is not None and agrees(written, recorded)
            is_all &= is_noted
            changes = _both_ways(now, written, place) if is_noted else differences(now, recorded, place)
            for where, given, then in changes:
                edits.setdefault((where, _short(given), _short(then)), []).append(run.name)
    findings = [
        Finding("edited", ", ".join(names), f"{where} {_how(now, then)}", str(path), now, then, REMEDY.format(path))
        for (where, now, then), names in edits.items()
    ]
    return findings, is_all


def _how(now: str, then: str) -> str:
    return "was added" if then == ABSENT else "was removed" if now == ABSENT else "has another value"


def _both_ways(now: Any, then: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """As `differences`, and what is no longer there."""
    yield from differences(now, then, place)
    yield from ((where, gone, had) for where, had, gone in differences(then, now, place) if gone is ABSENT)


def _is_item(found: Any, section: str, run: StageRun) -> bool:
    """A foreach stage over a mapping reads `section.item`."""
    return section == run.stage and isinstance(found, Mapping) and run.item in found


def agrees(given: Any, resolved: Any) -> bool:
    """Whether what a file says is what a run resolved it to: defaults may be absent in the file, nothing may differ."""
    return next(differences(given, resolved), None) is None


def differences(given: Any, resolved: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted place, what the file says, what a run had: ABSENT if it had no such key), in the file's order.

    A key that says null is one that is left out: a record lacks optional keys that were not given.
    """
    if isinstance(given, Mapping) and isinstance(resolved, Mapping):
        for key, value in given.items():
            yield from differences(value, resolved.get(key, ABSENT), f"{place}.{key}".removeprefix("."))
    elif isinstance(given, list) and isinstance(resolved, list) and len(given) == len(resolved):
        for number, (value, then) in enumerate(zip(given, resolved, strict=True)):
            yield from differences(value, then, f"{place}[{number}]")
    elif given is None and resolved is ABSENT:
        return
    elif given != resolved and (_as_number(given) != _as_number(resolved) or _as_number(given) is None):
        yield place, given, resolved


def _as_number(value: Any) -> float | None:
    """`1` in a file may have been resolved to the float 1.0, whose text is "1.0"."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _short(value: Any) -> str:
    return str(value)[:120]
