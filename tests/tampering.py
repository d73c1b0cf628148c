"""Whoever can write in a project, has git and keys of their own, but none that the project trusts: what they would try.

Each function changes the project in the current folder, guided by a random generator, and returns in words what it did.
All of them leave the chain of hashes whole, reseal manifests and mend dvc.lock where that is what hides the change.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import toy_chain

from whale.audit.run_graph import RunGraph
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.json_files import canonical_json
from whale.lineage import keys, ledger, signing
from whale.lineage.file_digests import FileDigests
from whale.lineage.statement import PREDICATE_TYPE, placed
from whale.lineage.taint import TAINT_TYPE, TAINTS_DIR
from whale.lineage.trust import TRUST, Trust, read_trust
from whale.seal import seal

Rng = np.random.Generator
Envelopes = list[signing.Envelope]
COPY = "statement.dsse.json"


def closed_set() -> list[Path]:
    """What a checkpoint's verification answers for: outputs of its chain, their manifests, the settings, dvc.lock, the
    ledger with HEAD, trust and keys, and the runs' records."""
    graph = RunGraph.load()
    runs = graph.ancestors(graph.find(str(toy_chain.FINAL)).run)
    folders = [Path(name).parent for each in runs for name in each.outputs]
    records = [Path(path) for each in runs for path, _ in each.byproducts.values()]
    fixed = ["params.yaml", "constraints.txt", "dvc.lock", ledger.LEDGER, ledger.HEAD, TRUST]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [*records, *(path.with_name(COPY) for path in records), *map(Path, fixed)]
    files += [*signing.PUBLIC_KEYS.glob("*.pub"), *Path("data_specs").glob("*.yaml")]
    return sorted(path for path in set(files) if path.stat().st_size)


def copy_of(statement: dict, line_id: str) -> Path | None:
    """Where the copy of a statement lies."""
    if statement["predicateType"] == TAINT_TYPE:
        return TAINTS_DIR / f"{line_id[:16]}.dsse.json"
    if statement["predicateType"] == PREDICATE_TYPE:
        return Path("lineage/runs") / statement["predicate"]["runDetails"]["metadata"]["invocationId"] / COPY
    return None


def rewrite(made: Sequence[signing.Envelope | Callable[[dict], signing.Envelope]], with_copies: bool = True) -> None:
    """A ledger of these lines, hashed into one chain; copies beside the runs as the lines say."""
    ledger.LEDGER.unlink()
    ledger.HEAD.unlink()
    for each in made:
        ledger.append(each if callable(each) else lambda _, kept=each: kept)
    for entry in ledger.read() if with_copies else ():
        if (copy := copy_of(entry.statement, entry.id)) is not None and copy.parent.is_dir():
            copy.write_bytes(canonical_json(entry.envelope).encode() + b"\n")


def signed_by(key: Path, statement: dict) -> Callable[[dict], signing.Envelope]:
    """From the place of a line to its envelope, as the ledger itself would ask for it."""
    trust = read_trust()
    return lambda place: signing.sign(placed(statement, {"ledger": trust.ledger, **place}), key)


def stranger(rng: Rng) -> Path:
    """A private key that nobody here trusts."""
    return keys.make_key(Path("..").resolve() / f"stranger-{rng.integers(2**60):x}.pem")


def publish(key: Path) -> str:
    keyid, pem = signing.public_half(key)
    (signing.PUBLIC_KEYS / f"{keyid}.pub").write_bytes(pem)
    return keyid


def weights_changed(rng: Rng) -> tuple[str, dict[str, str]]:
    """Another byte in an output of the chain, its folder sealed anew; {old sha256: new} of file and manifest."""
    run = RunGraph.load().find(str(toy_chain.FINAL)).run
    folder = Path(run.outputs[0]).parent
    path = folder / str(rng.choice(["model.safetensors", "config.json", "receipt.json", "contract.json"]))
    old = [sha256_of_file(path), sha256_of_file(folder / MANIFEST_NAME)]
    payload = bytearray(path.read_bytes())
    payload[int(rng.integers(len(payload)))] ^= int(rng.integers(1, 256))
    path.write_bytes(payload)
    (folder / MANIFEST_NAME).unlink()
    new = [sha256_of_file(path) if each == 0 else seal(folder, sha256_of_file) for each in (0, 1)]
    toy_chain.write_lock()
    return path.name, dict(zip(old, new, strict=True))


def a_byte(rng: Rng) -> str:
    files = closed_set()
    path = files[int(rng.integers(len(files)))]
    payload = bytearray(path.read_bytes())
    position = int(rng.integers(len(payload)))
    payload[position] ^= int(rng.integers(1, 256))
    path.write_bytes(payload)
    return f"byte {position} of {path}"


def a_resealed_folder(rng: Rng) -> str:
    return f"{weights_changed(rng)[0]} changed, resealed, dvc.lock mended"


def an_own_key(rng: Rng) -> str:
    """L1: the change is signed by a new key that is let in in some way; the whole ledger or the one line is theirs."""
    name, changed = weights_changed(rng)
    key, entries = stranger(rng), ledger.read()
    how = str(rng.choice(["added", "signers", "root", "root, committed", "nothing", "said", "replaced"]))
    keyid = signing.public_half(key)[0] if how == "nothing" else publish(key)
    trust = read_trust()
    all_lines = how.startswith("root") or bool(rng.integers(2))
    if how == "signers":
        TRUST.write_bytes(Trust(trust.ledger, trust.root, (trust.root, keyid)).payload())
    if how.startswith("root") or how == "replaced":
        TRUST.write_bytes(Trust(trust.ledger, keyid, (keyid,)).payload())
    lines = []
    for entry in entries:
        text = canonical_json(entry.statement)
        is_touched = any(old in text for old in changed)
        for old, new in changed.items():
            text = text.replace(old, new)
        lines.append(signed_by(key, json.loads(text)) if is_touched or all_lines else entry.envelope)
    subject = [{"name": f"lineage/keys/{keyid}.pub", "digest": {"sha256": "0" * 64}}]
    words = {"keyid": keyid, "because": "routine", "on": "2026-12-01T00:00:00+00:00"}
    if how == "said":
        words["action"] = "add"
    if how == "replaced":
        words |= {"action": "replace-root", "vouched": [trust.root, keyid]}
    if "action" in words:
        form = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "urn:whale:trust:1"}
        lines.insert(
            0 if how == "said" else len(lines), signed_by(key, {**form, "subject": subject, "predicate": words})
        )
    rewrite(lines)
    toy_chain.write_lock()
    if how == "root, committed":
        git("add", "-A", "lineage")
        git("commit", "-qm", "records")
    return f"{name} changed, signed by an own key ({how}, {'all lines' if all_lines else 'its line'})"


def a_replay(rng: Rng) -> str:
    """L7: a line that was signed here stands at another place, or in the place of another."""
    made: Envelopes = [entry.envelope for entry in ledger.read()]
    source, target = (int(each) for each in rng.choice(len(made), 2, replace=False))
    how = str(rng.choice(["appended", "inserted", "instead", "moved", "swapped"]))
    if how == "appended":
        made.append(made[source])
    elif how == "inserted":
        made.insert(target, made[source])
    elif how == "instead":
        made[target] = made[source]
    elif how == "moved":
        made.insert(target, made.pop(source))
    else:
        made[source], made[target] = made[target], made[source]
    rewrite(made, with_copies=bool(rng.integers(2)))
    return f"line {source + 1} {how} at {target + 1}"


def a_rollback(rng: Rng) -> str:
    """The last lines are cut off together with HEAD, with or without the records of their runs."""
    entries = ledger.read()
    left = len(entries) - int(rng.integers(1, len(entries)))
    is_tidy = bool(rng.integers(2))
    for entry in entries[left:]:
        if is_tidy and (copy := copy_of(entry.statement, entry.id)) is not None:
            shutil.rmtree(copy.parent)
    rewrite([entry.envelope for entry in entries[:left]], with_copies=False)
    return f"rolled back to {left} lines{', with the records' if is_tidy else ''}"


def a_line_left_out(rng: Rng) -> str:
    made = [entry.envelope for entry in ledger.read()]
    number = int(rng.integers(len(made)))
    rewrite(made[:number] + made[number + 1 :], with_copies=False)
    return f"line {number + 1} left out, the rest chained anew"


def a_deletion(rng: Rng) -> str:
    files = closed_set()
    kind = str(rng.choice(["any", "copy", "lineage"]))
    chosen = [path for path in files if kind == "any" or (path.name == COPY if kind == "copy" else
              path.parts[0] == "lineage" and path.parts[1] != "runs")]  # fmt: skip
    path = chosen[int(rng.integers(len(chosen)))]
    path.unlink()
    return f"{path} deleted"


def a_swap(rng: Rng) -> str:
    """L6: two files of one name, of two runs or two folders, change places."""
    by_name: dict[str, list[Path]] = {}
    for path in closed_set():
        by_name.setdefault(path.name, []).append(path)
    pairs = [each for each in by_name.values() if len({path.read_bytes() for path in each}) > 1]
    same = pairs[int(rng.integers(len(pairs)))]
    one = same[int(rng.integers(len(same)))]
    others = [path for path in same if path.read_bytes() != one.read_bytes()]
    other = others[int(rng.integers(len(others)))]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"{one} and {other} swapped"


def a_poisoned_cache(rng: Rng) -> str:
    """L5: the bytes change, and what was remembered of the file is made to fit."""
    from whale.audit.audit import audit

    audit(str(toy_chain.FINAL), deep=False, strict=False, expect_head=None)
    files = [path for path in closed_set() if path.parts[0] == "artifacts" and path.name != MANIFEST_NAME]
    path = files[int(rng.integers(len(files)))]
    known, md5 = sha256_of_file(path), FileDigests(algorithm="md5")(path)
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)
    stat = os.stat(path)
    how = str(rng.choice(["plain", "old mac", "own mac"]))
    for name, digest in (("verify-cache.json", known), ("md5-cache.json", md5)):
        cache = Path(".whale") / name
        held = json.loads(cache.read_bytes())
        rows = json.loads(held["kept"])
        rows[str(path.absolute())] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, digest]
        text = canonical_json(rows)
        mac = {"old mac": held["mac"], "own mac": "0" * 64}.get(how)
        cache.write_text(text if mac is None else json.dumps({"kept": text, "mac": mac}))
    return f"{path} changed, caches poisoned ({how})"


def a_signature(rng: Rng) -> str:
    """Removed, doubled, of another key, or of another curve point; the line hashed anew."""
    entries = ledger.read()
    number = int(rng.integers(len(entries)))
    envelope = json.loads(canonical_json(entries[number].envelope))
    how = str(rng.choice(["none", "two", "named otherwise", "flipped"]))
    if how == "none":
        envelope["signatures"] = []
    elif how == "two":
        envelope["signatures"] *= 2
    elif how == "named otherwise":
        envelope["signatures"][0]["keyid"] = publish(stranger(rng))
    else:
        signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        signature[-1] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    rewrite([envelope if at == number else entry.envelope for at, entry in enumerate(entries)])
    return f"signature of line {number + 1}: {how}"


def a_statement(rng: Rng) -> str:
    """A word of a payload, the line hashed anew under its old signature."""
    entries = ledger.read()
    number = int(rng.integers(len(entries)))
    envelope = json.loads(canonical_json(entries[number].envelope))
    text = base64.b64decode(envelope["payload"]).decode()
    words = [each for each in ('"dirty":null', '"seq":', '"sha256":"', '"startedOn":"2', '"stage":"') if each in text]
    word = words[int(rng.integers(len(words)))]
    at = text.index(word) + len(word) if word == '"sha256":"' else None
    other = "1" if at is not None and text[at] == "0" else "0"
    new = {'"seq":': '"seq":1', '"sha256":"': f'"sha256":"{other}'}.get(word, word.replace('":', '" :'))
    text = text.replace(word, new, 1) if at is None else text[: at - len(word)] + new + text[at + 1 :]
    envelope["payload"] = base64.b64encode(text.encode()).decode()
    rewrite([envelope if place == number else entry.envelope for place, entry in enumerate(entries)])
    return f"{word} in the payload of line {number + 1}"


def a_foreign_line(rng: Rng) -> str:
    """A line of another project, with its key."""
    key = stranger(rng)
    if rng.integers(2):
        publish(key)
    entry = ledger.read()[int(rng.integers(len(ledger.read())))]
    statement = json.loads(canonical_json(entry.statement))
    place = {"ledger": "f" * 32, "seq": entry.seq, "prev": list(entry.prev)}
    ledger.append(lambda _: signing.sign(placed(statement, place), key))
    return f"line {entry.line} as of another project appended"


def something_more(rng: Rng) -> str:
    """A file where none belongs."""
    how = str(rng.choice(["file", "link", "key", "copy", "taint"]))
    if how == "key":
        publish(stranger(rng))
    elif how in ("file", "link"):
        path = toy_chain.FINAL / "more"
        path.symlink_to("config.json") if how == "link" else path.write_text("x")
    else:
        entries = ledger.read()
        envelope = entries[int(rng.integers(len(entries)))].envelope
        statement = signing.payload_of(envelope)
        place = statement["predicate"]["buildDefinition"]["internalParameters"]["place"]
        place["prev"] = ["ab" * 32]
        envelope = {**envelope, "payload": base64.b64encode(canonical_json(statement).encode()).decode()}
        path = Path("lineage/runs") / f"{rng.integers(2**60):016x}" / COPY
        path = TAINTS_DIR / "0123456789abcdef.dsse.json" if how == "taint" else path
        path.parent.mkdir(parents=True)
        path.write_text(canonical_json(envelope))
    return f"one {how} more"


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True)


TAMPERS: tuple[Callable[[Rng], str], ...] = (
    a_byte, a_resealed_folder, an_own_key, an_own_key, a_replay, a_replay, a_rollback, a_line_left_out, a_deletion,
    a_swap, a_poisoned_cache, a_signature, a_statement, a_foreign_line, something_more,
)  # fmt: skip
