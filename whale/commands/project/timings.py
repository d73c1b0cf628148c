"""`whale timings`: where the time of the last run of each stage went."""

from pathlib import Path
from typing import Any

from whale.commands.output import AsJson, print_json, print_table
from whale.common.errors import MissingInputError
from whale.common.json_files import read_json

EXAMPLE = "Example: whale timings"
COLUMNS = ("wall_s", "compute_s", "overhead_s", "capture_s")


def timings(as_json: AsJson = False) -> None:
    """Show where the time went. Wall time of each stage's process, its compute, and the rest: framework overhead.

    Capture is the part of overhead that proves inputs, seals outputs and records the run for lineage.
    """
    runs, profile = Path("lineage/runs"), active_profile()
    rows = latest_timings(runs, profile)
    if not rows:
        what = "no stage has run here yet" if profile is None else f"no stage of {profile} has run here yet"
        raise MissingInputError(what, file=runs, remedy="run `make demo`, or `dvc repro`")
    totals = {column: round(sum(row.get(column, 0.0) for row in rows), 1) for column in COLUMNS}
    if as_json:
        print_json({"stages": rows, "total": totals})
        return
    cells = [[f"{row[column]:.1f}" if column in row else "-" for column in COLUMNS] for row in rows]  # older runs
    peaks = [f"{max(row['peak_rss_mb'], row['peak_child_rss_mb']):.0f}" for row in rows]
    table = [[row["stage"], *times, peak] for row, times, peak in zip(rows, cells, peaks, strict=True)]
    table.append(["total", *(f"{totals[column]:.1f}" for column in COLUMNS), ""])
    print_table(["stage", "wall s", "compute s", "overhead s", "capture s", "peak MB"], table)


def latest_timings(runs: Path, profile: str | None) -> list[dict[str, Any]]:
    """The last timing of each stage of `profile` (None: of all), in the order in which they ended."""
    found = [read_json(path) for path in runs.glob("*/timings.json")]
    kept = [row for row in sorted(found, key=lambda row: row["finished"]) if profile in (None, row["profile"])]
    last = {row["stage"]: row for row in kept}
    return sorted(last.values(), key=lambda row: row["finished"])


def active_profile() -> str | None:
    """`profile` of params.yaml; None where there is no such file."""
    from whale.common.config import load_sections  # pydantic is imported here: no `--help` pays for it

    return load_sections("params.yaml").get("profile") if Path("params.yaml").is_file() else None
