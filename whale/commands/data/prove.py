"""`whale data prove`: is the conversion of a dataset 1:1? Two independent readings of its source and of its shards."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.common.errors import ConfigError, IncompleteError, MissingInputError, RefusedError
from whale.common.printable import one_line

if TYPE_CHECKING:
    from whale.audit.conversion.prove import Proof, Verdict

EXAMPLE = "Example: whale data prove bridge_sample --episodes 8"
SHOWN = 20
EXITS: dict["Verdict", int] = {
    "equal": 0,
    "differs": RefusedError.exit_code,
    "nothing compared": IncompleteError.exit_code,
}
Shards = Annotated[Path | None, typer.Option("--shards", help="The dataset's folder of shards; found if not given.")]
Raw = Annotated[Path | None, typer.Option("--raw", help="The raw data; as params.yaml says if not given.")]


def prove(
    name: str,
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="How many to compare, kept or not.")] = 16,
    every: Annotated[bool, typer.Option("--all", help="Compare all of them.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Which ones are drawn.")] = 0,
    shards: Shards = None,
    raw: Raw = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare; sign nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove that the shards are what the source is, and sign it.

    Exit 0 if equal, 3 if anything differs, 4 if no drawn episode lies in the shards, so that nothing was compared.

    Source: our reader against TFDS, h5py, numpy or pyarrow and PyAV by time stamp. Shards: tarfile, numpy and OpenCV
    against the source's pixels, actions, lengths, order and text as the spec says, computed a second time; and against
    our own reader. All of the source's episodes must be kept or quarantined, whichever are drawn.
    """
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings are no result
    from whale.audit.conversion.prove import conversion_statement
    from whale.audit.conversion.prove import prove as compare
    from whale.common.progress import Progress
    from whale.data.spec.spec import load_spec
    from whale.lineage.trust import require_signer, sign_into_ledger

    if not dry_run:
        require_signer()  # before hours of reading
    spec = load_spec(name)
    folder = _shards(name) if shards is None else shards
    with Progress(0 if every else episodes, "episodes", "prove") as bar:

        def begin(total: int) -> None:
            bar.total = total

        proof = compare(
            folder, _raw(name) if raw is None else raw, spec, None if every else episodes, seed,
            begin=begin, done=bar.update,
        )  # fmt: skip
    entry = None
    if not dry_run:
        entry, _ = sign_into_ledger(conversion_statement(proof, datetime.now(UTC).isoformat(timespec="seconds")))
    if as_json:
        print_json(proof.to_json() | {"differences": list(map(vars, proof.differences)), "entry": entry})
    else:
        _print(proof, entry)
    raise typer.Exit(EXITS[proof.verdict])


def _shards(name: str) -> Path:
    """The one folder of this dataset's shards; ConfigError if profiles have several."""
    found = sorted(path.parent for path in Path("artifacts").glob(f"*/data/*/shards/{name}/manifest.json"))
    if not found:
        remedy = f"`dvc repro ingest@{name}`, or name the folder with --shards"
        raise MissingInputError("no shards of this dataset", file="artifacts", place=name, remedy=remedy)
    if len(found) > 1:
        raise ConfigError(
            "several profiles have shards of this dataset", place=name, found=", ".join(map(str, found)),
            expected="one", remedy="name it: --shards FOLDER",
        )  # fmt: skip
    return found[0]


def _raw(name: str) -> Path:
    """Where params.yaml says that the raw data lie; else the link of `whale data link`."""
    from whale.common.config import load_yaml

    params = Path("params.yaml")
    entry = ((load_yaml(params) or {}).get("datasets") or {}).get(name) if params.is_file() else None
    return Path(entry["raw"]) if entry else Path("raw") / name


def _print(proof: "Proof", entry: str | None) -> None:
    from whale.audit.conversion.prove import LISTING

    seen = proof.measured
    differs = any(each.field == LISTING for each in proof.differences)
    rows = [
        ["rows of the index", proof.episodes, "DIFFERS" if differs else "every episode is kept or quarantined"],
        ["episodes drawn", len(proof.sampled), f"seed {proof.seed}"],
        ["kept, compared", seen.episodes, "field by field, to their end"],
        ["dropped, compared", seen.dropped, "is it for a reason of the spec"],
        ["not compared", len(proof.sampled) - seen.episodes - seen.dropped, "as said below"],
        ["steps", seen.steps, "lengths, order, text"],
        ["actions", seen.actions, f"largest distance {seen.action:.2g}"],
        ["frames", seen.frames, f"largest mean {seen.frame_mean:.2f}, worst block {seen.frame_block:.1f} grey levels"],
    ]
    print_table([f"{proof.name}: whale against {proof.readers[1]}", "count", "found"], rows)
    for reason, count in proof.not_judged.items():
        print(f"not judged: {count} episodes dropped as {one_line(reason)}")
    for difference in proof.differences[:SHOWN]:
        print(f"  {one_line(str(difference))}")
    if len(proof.differences) > SHOWN:
        print(f"  ... and {len(proof.differences) - SHOWN} more (--json has all)")
    said = {
        "equal": f"equal: the conversion is 1:1 in {seen.episodes} of {proof.episodes} episodes, those compared",
        "differs": f"DIFFERS in {len(proof.differences)} places of what was compared",
        "nothing compared": "NOTHING COMPARED, so nothing is proven: no drawn episode lies in the shards; "
        "draw more with --episodes N or --all",
    }
    print(said[proof.verdict], f"(signed: ledger {entry[:16]})" if entry else "(not signed)")
