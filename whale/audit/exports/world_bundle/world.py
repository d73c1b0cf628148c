"""`whale export --as world`: tokenizer, behavior model and dynamics as one folder that `whale.load` opens anywhere.

Layout: whale/worlds/folder.py. Every part must be, byte by byte, what was signed. A small bundle, to be handed on as a
release asset, has weights rounded to float16 and must imagine what the published ones imagine.
"""

import shutil
from pathlib import Path

from whale.audit.exports.as_signed import require_as_signed, require_folder_as_signed, require_new
from whale.audit.exports.bundle import sign_bundle, write_statements_of
from whale.audit.exports.hub import hub_metadata
from whale.audit.exports.terms import write_terms
from whale.audit.exports.world_bundle.recorded_starts import starts_beside
from whale.audit.exports.world_bundle.rounded import compare
from whale.audit.exports.world_bundle.world_parts import write_parts
from whale.audit.run_graph import RunGraph, Target
from whale.common.errors import ConfigError
from whale.common.files import sha256_of_file
from whale.seal import names_below, seal
from whale.worlds.folder import open_folder

STARTS = 16  # recorded beginnings a dataset
MOST_BYTES = 5_000_000  # of a small bundle


def export_world(
    target: Target, graph: RunGraph, out: Path, reward: Path | None = None, recorded: bool = False, small: bool = False
) -> list[str]:
    """Write the bundle `out`, which must not exist, and return the names of its files.

    target: the dynamics. reward: a head that train_reward published. recorded: starts with the frames that
    followed. small: see above; a ConfigError if it would be larger than 5 MB. ConfigError for another kind of
    checkpoint, MismatchError for bytes that nobody signed. Where it ends with an error, nothing is left.
    """
    if target.folder.parent.name != "dynamics":
        raise ConfigError("a world is exported by its dynamics", file=target.folder, expected=".../dynamics/<name>")
    require_new(out)
    world = open_folder(target.folder)
    parts = [graph.find(str(folder)) for folder in (world.tokenizer, world.behavior, world.dynamics)]
    for part in parts:
        require_folder_as_signed(part)
    heads = [] if reward is None else [graph.find(str(reward))]
    for head in heads:
        require_folder_as_signed(head)
    calibrations = [] if world.calibration is None else [graph.find(str(world.calibration))]
    for calibration in calibrations:
        require_as_signed(calibration)
    # A head may have learned from other data. Of the calibration goes out what was measured of this checkpoint, on
    # held-out episodes of the datasets of its own role; its stage read those of other checkpoints for other entries.
    runs = [head.run for head in heads]
    front = {"tags": ["robotics", "world-model"], **hub_metadata(target.run, graph, runs)}
    starts = starts_beside(world, STARTS, recorded)
    try:
        write_parts(out, world, starts, reward, small, front)
        write_terms(out, target, graph, runs)
        write_statements_of([*parts, *heads, *calibrations], graph, out)
        sign_bundle(out, compare(target.folder, out, starts) if small else None)
        seal(out, sha256_of_file)
        if small:
            _require_small(out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return sorted(names_below(out))


def _require_small(out: Path) -> None:
    sizes = {name: (out / name).stat().st_size for name in names_below(out)}
    if sum(sizes.values()) > MOST_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        found = f"{sum(sizes.values()):,} bytes, most in {', '.join(largest)}"
        raise ConfigError("larger than a small bundle may be", file=out, place="--small", found=found,
                          expected=f"<= {MOST_BYTES:,} bytes", remedy="leave out --recorded, or --small")  # fmt: skip
