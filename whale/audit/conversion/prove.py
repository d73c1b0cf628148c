"""Is a conversion 1:1? Episodes of a dataset, read from source and shards by two independent ways each.

Every episode of the source must have its row in the index; those that are sampled are compared field by field. What is
not judged (episodes that no reader can read, the state, rewards) is counted and said; where no episode of the shards
was compared, nothing is proven.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whale.audit.conversion import compare
from whale.audit.conversion.compare import Difference, Measured
from whale.audit.conversion.meaning import dropped_because, meaning
from whale.audit.conversion.opening import open_plain
from whale.audit.conversion.pixels import BLOCK_TOLERANCE, MEAN_TOLERANCE
from whale.audit.conversion.plain import PlainReader
from whale.audit.conversion.stored import index_rows, read_sample
from whale.common.boundary import reading
from whale.common.errors import MismatchError
from whale.data.ingest.canonical.canonical import wanted_keys
from whale.data.ingest.sources.source import Source, digest_of, measured
from whale.data.ingest.tasks import find_source
from whale.data.spec.episode import RawEpisode, Rejected, episode_key
from whale.data.storage.shards import ShardSet
from whale.lineage.statement import floats_as_text, in_toto

if TYPE_CHECKING:
    from whale.data.spec.spec import DatasetSpec

CONVERSION_TYPE = "urn:whale:conversion:1"
DECIDED = ("filtered", "too_short", "excluded_by_hand")  # reasons to drop that a spec gives; others are of damage
TOLERANCES = {
    "frame mean, grey levels": MEAN_TOLERANCE,
    "frame worst 8 x 8 block, grey levels": BLOCK_TOLERANCE,
    "action, absolute": compare.ACTION_ABSOLUTE,
    "action, relative": compare.ACTION_RELATIVE,
}
NOT_COMPARED = ("state", "reward", "discount", "is_terminal")  # raw columns of the state are, between the two readers
SIGNED = 20  # differences in the statement
LISTING = "list of episodes"  # the field of a difference between the source's episodes and the index's rows
Verdict = Literal["equal", "differs", "nothing compared"]


@dataclass(frozen=True)
class Proof:
    """`sampled` of `episodes` (rows of the index); not_judged: reason -> sampled episodes that no reader can judge."""

    name: str
    shards: str
    manifest_sha256: str
    spec_digest: str
    readers: tuple[str, str]
    seed: int
    episodes: int
    sampled: tuple[str, ...]
    not_judged: dict[str, int]
    measured: Measured

    @property
    def differences(self) -> list[Difference]:
        return self.measured.differences

    @property
    def verdict(self) -> Verdict:
        """Equal only if at least one episode that lies in the shards was compared to its end."""
        if self.differences:
            return "differs"
        return "equal" if self.measured.episodes else "nothing compared"

    def to_json(self) -> dict[str, Any]:
        values = asdict(self.measured)
        differences = values.pop("differences")
        about = {name: value for name, value in vars(self).items() if name != "measured"}
        return about | {
            "verdict": self.verdict, "equal": self.verdict == "equal", "compared": values, "tolerances": TOLERANCES,
            "differences": differences,
            "not_compared": list(NOT_COMPARED), "sampled": list(self.sampled), "readers": list(self.readers),
        }  # fmt: skip


def conversion_statement(proof: Proof, proved: str) -> dict[str, Any]:
    """The statement to sign; `proved`: ISO time. Its subject is the manifest, which names every byte of the shards."""
    predicate = proof.to_json() | {"provedOn": proved, "differencesInAll": len(proof.differences)}
    keys = predicate.pop("sampled")
    predicate["sampled"] = {"episodes": len(keys), "sha256": hashlib.sha256("\n".join(keys).encode()).hexdigest()}
    predicate["differences"] = predicate["differences"][:SIGNED]
    subject = {"name": f"{proof.shards}/manifest.json", "digest": {"sha256": proof.manifest_sha256}}
    return in_toto(CONVERSION_TYPE, [subject], floats_as_text(predicate))


def prove(
    directory: Path, raw: Path, spec: "DatasetSpec", episodes: int | None, seed: int = 0, links: Path = Path(),
    begin: Callable[[int], object] = lambda total: None, done: Callable[[], object] = lambda: None,
) -> Proof:  # fmt: skip
    """Compare `episodes` of the dataset (None: all); `links`: folder above raw/; `begin` hears how many there will be.

    Raises MismatchError for shards of another spec, BadDataError and MissingInputError as ingest does.
    """
    shards = ShardSet.open(directory)
    if shards.law.spec_digest != spec.digest():
        raise MismatchError(
            "the shards were made by another spec", file=directory / "manifest.json", found=shards.law.spec_digest[:16],
            expected=f"{spec.digest()[:16]}, that of data_specs/{spec.name}.yaml",
            remedy=f"`dvc repro ingest@{spec.name}`, or take the spec of then from git",
        )  # fmt: skip
    _, source, _ = find_source(raw, spec, shards.law.images.roles, links)
    seen, not_judged = Measured(), Counter[str]()
    with reading(source.directory, "the second reader cannot open this dataset"):
        plain = open_plain(spec.source.format, source.directory)
        expected = _expected(spec, plain)
    listed = index_rows(directory)
    rows = _compare_lists(expected, listed, seen)
    chosen = _sample(sorted(rows), episodes, seed)
    begin(len(chosen))
    comparing = _Comparing(spec, shards, source, plain, seen, not_judged)
    unread = dict.fromkeys(chosen)
    for key, row, outcome in _our_readings(source, spec, shards, [rows[key] for key in chosen], seen):
        comparing.episode(key, row, outcome)
        del unread[key]
        done()
    for key in unread:
        comparing.unread(key, rows[key])
        done()
    return Proof(
        spec.name, directory.as_posix(), shards.digest, spec.digest(), ("whale", plain.how), seed, len(listed),
        tuple(chosen), dict(sorted(not_judged.items())), seen,
    )  # fmt: skip


def _sample(keys: Sequence[str], episodes: int | None, seed: int) -> list[str]:
    if episodes is None or episodes >= len(keys):
        return list(keys)
    numbers = np.random.default_rng(seed).choice(len(keys), episodes, replace=False)
    return [keys[number] for number in sorted(numbers)]


def _expected(spec: "DatasetSpec", plain: PlainReader) -> dict[str, str]:
    """Key -> split of every episode that the splits name, counted by the other reader."""
    return {
        episode_key(spec.name, name, ordinal): name
        for name, part in spec.source.slices().items()
        for ordinal in _ordinals(part, plain.count(part.split))
    }


def _compare_lists(
    expected: Mapping[str, str], listed: Sequence[dict[str, Any]], seen: Measured
) -> dict[str, dict[str, Any]]:
    """Each has one row, and there is no other. Returns the rows that can be compared, by key."""
    count = Counter(row["key"] for row in listed)
    for key in sorted(expected.keys() - count.keys()):
        seen.add(key, None, LISTING, "neither kept nor quarantined", "a row of episodes.parquet")
    for key in sorted(count.keys() - expected.keys()):
        seen.add(key, None, LISTING, "a row of episodes.parquet", "no such episode of the source")
    rows = {row["key"]: row for row in listed if row["key"] in expected}
    for key, row in sorted(rows.items()):
        if count[key] > 1 or row["split"] != expected[key]:
            seen.add(key, None, LISTING, f"{count[key]} rows, of {row['split']}", f"one row, of {expected[key]}")
    return {key: row for key, row in rows.items() if row["split"] == expected[key]}


def _ordinals(part: Any, total: int) -> Iterator[int]:
    """Percent bounds rounded as TFDS does; or sha256 of the ordinal modulo 100."""
    if not part.hashed:
        yield from range(round(part.start * total / 100), round(part.stop * total / 100))
        return
    for ordinal in range(total):
        digest = hashlib.sha256(str(ordinal).encode()).hexdigest()[:16]
        if part.start <= int(digest, 16) % 100 < part.stop:
            yield ordinal


def _our_readings(
    source: Source, spec: "DatasetSpec", shards: ShardSet, rows: Sequence[dict[str, Any]], seen: Measured
) -> Iterator[tuple[str, dict[str, Any], RawEpisode | Rejected]]:
    """Each sampled row with what our reader finds of it; every unit's digest is compared with the manifest's."""
    made_from = {entry.file: entry for entry in shards.law.sources}
    wanted: dict[tuple[str, int], dict[int, list[dict[str, Any]]]] = {}  # one record may stand in two of our splits
    for row in rows:
        split = spec.source.slices()[row["split"]].split
        ordinal = int(row["key"].rpartition("-")[2])
        for number, unit in enumerate(source.splits[split]):
            if 0 <= ordinal - unit.first_ordinal < unit.records:
                wanted.setdefault((split, number), {}).setdefault(ordinal - unit.first_ordinal, []).append(row)
    for (split, number), chosen in sorted(wanted.items()):
        unit = source.splits[split][number]
        size, sha256 = digest_of({file: measured(source.directory / file) for file in unit.files})
        entry = made_from.get(unit.file)
        if entry is None or (entry.bytes, entry.sha256) != (size, sha256):
            known = "no such source" if entry is None else f"{entry.bytes} bytes, sha256 {entry.sha256[:16]}"
            seen.add(unit.file, None, "source file", f"{size} bytes, sha256 {sha256[:16]}", f"{known}: made from that")
        reader = source.read_shard(split, number, wanted_keys(spec, spec.cameras), hashed=False)
        left = len(chosen)
        for place, outcome in enumerate(reader):
            if place in chosen:
                yield from ((row["key"], row, outcome) for row in chosen[place])
                left -= 1
            if not left:
                break


class _Comparing:
    """What all episodes are compared with."""

    def __init__(self, spec: "DatasetSpec", shards: ShardSet, source: Source, plain: PlainReader, seen: Measured,
                 not_judged: Counter[str]):  # fmt: skip
        self.spec, self.shards, self.source, self.plain = spec, shards, source, plain
        self.seen, self.not_judged = seen, not_judged
        self.kept = {split: {key: n for n, key in enumerate(shards.episodes(split).keys())} for split in shards.splits}

    def episode(self, key: str, row: Mapping[str, Any], outcome: RawEpisode | Rejected) -> None:
        if isinstance(outcome, Rejected):  # no other library opens what our limits refuse
            if row["kept"]:
                self.seen.add(key, None, "episode", f"kept; our reader now refuses it: {outcome.detail}", "readable")
            else:
                self.not_judged[row["reason"]] += 1
            return
        try:
            self._readable(key, row, outcome)  # counts what it compared at its end
        except Exception as error:  # whatever another library raises of foreign files is a finding, not an end
            found = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.seen.add(key, None, "second reading", found, "the same episode as our reader's")

    def unread(self, key: str, row: Mapping[str, Any]) -> None:
        """Our reader ended without this episode: no wonder for a damaged one, a difference for any other."""
        if row["kept"] or row["reason"] in DECIDED:
            said = "kept" if row["kept"] else f"dropped as {row['reason']}"
            self.seen.add(key, None, "episode", f"{said}; our reader gives no such episode now", "readable")
        else:
            self.not_judged[row["reason"]] += 1

    def _readable(self, key: str, row: Mapping[str, Any], raw: RawEpisode) -> None:
        split = self.spec.source.slices()[row["split"]].split
        plain = self.plain.read(split, int(key.rpartition("-")[2]))
        why = dropped_because(plain, self.spec, key)
        if not row["kept"]:
            if row["reason"] in DECIDED or why is not None:
                self.seen.dropped += 1
                if why != row["reason"]:
                    self.seen.add(key, None, "episode", f"dropped as {row['reason']}", why or "kept")
            else:
                self.not_judged[row["reason"]] += 1
            return
        if why is not None:
            self.seen.add(key, None, "episode", "kept", f"dropped as {why}")
            return
        roles = self.shards.law.images.roles
        compare.compare_source(key, raw, plain, self.spec, self.seen)
        compare.compare_pictures(key, raw, plain, self.spec, roles, self.seen)
        sample, images = read_sample(self.shards.directory, row["shard"], key), self.shards.law.images
        compare.compare_shards(key, sample, plain, meaning(plain, self.spec), self.spec, images.resolution,
                               images.jpeg_quality, roles, self.seen)  # fmt: skip
        ours = self.shards.episodes(row["split"])[self.kept[row["split"]][key]]
        frames = {role: self.shards.read_frames(ours, 0, ours.num_steps, role) for role in ours.frames}
        compare.compare_stored(key, sample, self.shards.read_arrays(ours), frames, self.seen)
        if ours.language != sample.about["language"]:
            self.seen.add(key, None, "stored: language", repr(ours.language), repr(sample.about["language"]))
        self.seen.episodes += 1
