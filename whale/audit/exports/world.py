"""`whale export --as world`: tokenizer, behavior model and dynamics as one folder that `whale.load` opens anywhere.

Layout: whale/worlds/folder.py. Every part must be, byte by byte, what was signed.
"""

from pathlib import Path

from whale.audit.exports.as_signed import require_as_signed, require_folder_as_signed, require_new
from whale.audit.exports.bundle import write_statements_of
from whale.audit.exports.recorded_starts import starts_beside
from whale.audit.exports.world_parts import write_parts
from whale.audit.run_graph import RunGraph, Target
from whale.common.errors import ConfigError
from whale.common.files import sha256_of_file
from whale.seal import names_below, seal
from whale.worlds.folder import open_folder

STARTS = 16  # recorded beginnings a dataset


def export_world(
    target: Target, graph: RunGraph, out: Path, reward: Path | None = None, recorded: bool = False
) -> list[str]:
    """Write the bundle `out`, which must not exist, and return the names of its files.

    target: the dynamics. reward: a head that evaluate_policies published. recorded: starts with the frames that
    followed. ConfigError for another kind of checkpoint, MismatchError for bytes that nobody signed.
    """
    if target.folder.parent.name != "dynamics":
        raise ConfigError("a world is exported by its dynamics", file=target.folder, expected=".../dynamics/<name>")
    require_new(out)
    world = open_folder(target.folder)
    parts = [graph.find(str(folder)) for folder in (world.tokenizer, world.behavior, world.dynamics)]
    for part in parts:
        require_folder_as_signed(part)
    beside = [path for path in (world.calibration, None if reward is None else reward / "model.safetensors") if path]
    others = [graph.find(str(path)) for path in beside]
    for other in others:
        require_as_signed(other)
    write_parts(out, world, starts_beside(world, STARTS, recorded), reward)
    write_statements_of([*parts, *others], graph, out)
    seal(out, sha256_of_file)
    return sorted(names_below(out))
