"""Where the parts of a world lie: an exported bundle, or the folders that the pipeline published.

A bundle (`whale export CHECKPOINT --as world --to BUNDLE`) holds everything and needs neither the project nor DVC:

| file | holds |
|---|---|
| `world.json` | which dynamics, its window and datasets |
| `tokenizer/`, `behavior/`, `dynamics/` | the published weights, with statistics and contracts |
| `reward/` | a reward head, if one was trained |
| `calibration.json` | what its uncertainties mean, if they were measured |
| `starts/<dataset>.npz` | first frames and actions of recorded episodes |
| `lineage.json`, `statements.intoto.jsonl`, `public/` | what proves the origin |
| `env.py`, `README.md` | `make_env` for LeRobot's EnvHub, and a first example |
| `export.intoto.json` | who made the bundle signs for every file of it |
| `MANIFEST.json` | sha256 of every file here |

A small bundle's weights are rounded to float16; `world.json` names those they were rounded from, and the manifest of
each part is its `published.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from whale.common.config import Config
from whale.common.errors import BadDataError, ConfigError, MissingInputError
from whale.common.files import MANIFEST_NAME, WEIGHTS, sha256_of_file
from whale.common.json_files import read_json
from whale.common.limits import WINDOW_FRAMES
from whale.seal import verify_sealed

WORLD = "world.json"
FORMAT = 1


class Rounded(Config):
    """`of`: sha256 of the float32 weights of each part, before they were rounded."""

    weights: Literal["float16"]
    of: dict[Literal["tokenizer", "behavior", "dynamics"], Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(
        min_length=3
    )


class About(Config):
    """world.json of a bundle."""

    format: int
    window: int = Field(ge=1, le=WINDOW_FRAMES)
    contracts: dict[str, dict[str, Any]] = Field(min_length=1)
    statistics: dict[str, dict[str, Any]]
    rounded: Rounded | None = None


@dataclass(frozen=True)
class WorldFolder:
    """Folders of the parts, and what is known beside them. `reward`, `calibration`, `starts`: where there are any.

    `heads`: reward heads that the pipeline trained beside the models; which of them reads this tokenizer is not known.
    `rounded_from`: of a small bundle, sha256 of the weights of each part before they were rounded.
    """

    folder: Path
    tokenizer: Path
    behavior: Path
    dynamics: Path
    window: int
    contracts: Mapping[str, Mapping[str, Any]]
    statistics: Mapping[str, Mapping[str, Any]]
    lineage: Mapping[str, Any]
    reward: Path | None = None
    calibration: Path | None = None
    starts: Path | None = None
    heads: Sequence[Path] = ()
    rounded_from: Mapping[str, str] | None = None

    @property
    def measured(self) -> Mapping[str, str]:
        """sha256 of the weights that its calibration and its reward head were made with."""
        return self.digests if self.rounded_from is None else self.rounded_from

    @property
    def digests(self) -> dict[str, str]:
        """sha256 of the weights of each part."""
        parts = {"tokenizer": self.tokenizer, "behavior": self.behavior, "dynamics": self.dynamics}
        return {name: sha256_of_file(path / WEIGHTS) for name, path in parts.items()}


def open_folder(path: Path | str, dynamics: str = "full", verify: bool = True) -> WorldFolder:
    """A bundle, `.../dynamics/NAME`, or a folder of models that holds `dynamics/<dynamics>`.

    verify: every byte against MANIFEST.json; MismatchError names the file that differs, MissingInputError one that is
    not there. Folders without a manifest (a stage called by hand) have nothing to be compared with.
    """
    path = Path(path)
    if (path / WORLD).is_file():
        return _bundle(path, verify)
    if path.parent.name == "dynamics":
        return _published(path, verify)
    if (path / "dynamics" / dynamics).is_dir():
        return _published(path / "dynamics" / dynamics, verify)
    raise MissingInputError(
        "no world model here", file=path, expected=f"{WORLD} of an exported bundle, or a folder .../dynamics/<name>",
        remedy="whale export artifacts/demo/models/dynamics/full --as world --to BUNDLE",
    )  # fmt: skip


def _bundle(path: Path, verify: bool) -> WorldFolder:
    if verify:
        if not (path / MANIFEST_NAME).is_file():
            raise MissingInputError("a bundle without its manifest", file=path / MANIFEST_NAME,
                                    remedy="export it again; a bundle is never loaded unproven")  # fmt: skip
        verify_sealed(path, sha256_of_file)
    values = read_json(path / WORLD)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise BadDataError("a bundle of another format", file=path / WORLD, found=found, expected=FORMAT)
    about = _about(values, path / WORLD)
    rounded_from = None if about.rounded is None else {str(part): sha for part, sha in about.rounded.of.items()}
    return WorldFolder(
        folder=path, tokenizer=path / "tokenizer", behavior=path / "behavior", dynamics=path / "dynamics",
        window=about.window, contracts=about.contracts, statistics=about.statistics,
        lineage=_lineage(path), reward=_there(path / "reward"), calibration=_there(path / "calibration.json"),
        starts=_there(path / "starts"), rounded_from=rounded_from,
    )  # fmt: skip


def _published(dynamics: Path, verify: bool) -> WorldFolder:
    models = dynamics.parent.parent
    parts = [models / "tokenizer", models / "behavior", dynamics]
    for part in parts:
        if not (part / WEIGHTS).is_file():
            raise MissingInputError("a part of the world is missing", file=part, expected=WEIGHTS)
        if verify and (part / MANIFEST_NAME).is_file():
            verify_sealed(part, sha256_of_file)
    artifacts = models.parent.parent if models.name == "finetuned" else models.parent
    calibration = _there(artifacts / "evaluation/uncertainty/calibration.json")
    return WorldFolder(
        folder=dynamics, tokenizer=parts[0], behavior=parts[1], dynamics=dynamics,
        window=_window(dynamics, artifacts / "data" / ("finetune" if models.name == "finetuned" else "pretrain")),
        contracts=read_json(dynamics / "contract.json"), statistics=read_json(dynamics / "dataset_statistics.json"),
        lineage=_lineage(dynamics), calibration=calibration, heads=sorted((artifacts / "reward").glob("*")),
    )  # fmt: skip


def _about(values: object, file: Path) -> About:
    try:
        return About.parse(values, file=file)
    except ConfigError as error:  # nobody wrote this file by hand
        raise BadDataError("a bundle's description that does not hold", file=file, place=error.place,
                           expected=f"window 1 to {WINDOW_FRAMES}, contracts, statistics") from None  # fmt: skip


def _window(dynamics: Path, role: Path) -> int:
    """T, from what the training says of itself, else from the token shards beside it."""
    said: list[tuple[Path, tuple[str, ...]]] = [(dynamics / "lineage.json", ("params", "segments", "window"))]
    said += [(manifest, ("grid", "window")) for manifest in sorted(role.glob("tokens/*/manifest.json"))]
    for file, names in said:
        if file.is_file():
            found: Any = read_json(file)
            for name in names:
                found = found.get(name) if isinstance(found, dict) else None
            if type(found) is not int or not 1 <= found <= WINDOW_FRAMES:
                raise BadDataError("no such window", file=file, place=".".join(names), found=found,
                                   expected=f"1 to {WINDOW_FRAMES}")  # fmt: skip
            return found
    raise MissingInputError("how many frames this model remembers is not known", file=dynamics,
                            expected="lineage.json, or token shards beside the models")  # fmt: skip


def _lineage(folder: Path) -> Mapping[str, Any]:
    """lineage.json of the dynamics; of a model made by hand, only that there is none."""
    path = folder / "lineage.json"
    if path.is_file():
        return read_json(path)
    return {"complete": False, "why": "made by hand: no lineage.json, so no claim about its origin"}


def _there(path: Path) -> Path | None:
    return path if path.exists() else None


def chosen_dataset(folder: WorldFolder, robot: str | None) -> str:
    """The dataset whose contract holds; ConfigError where there are several and none, or an unknown one, is named."""
    known = sorted(folder.contracts)
    if robot is None and len(known) == 1:
        return known[0]
    if robot is None or robot not in known:
        raise ConfigError(
            "whose actions will come? Their units and statistics differ", file=folder.folder, place="robot",
            found=robot, expected=f"one of {', '.join(known)}",
        )  # fmt: skip
    return robot
