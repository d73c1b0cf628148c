"""Where the raw files of a dataset lie: a folder, or a committed description of files behind a link.

A description, data_specs/sources/<name>.json, is
{"name", "link": "raw/<name>", "files": [{"path", "bytes", "sha256"}]}. It is the dataset's digest for lineage, and
every file that is read is compared with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from whale.common.config import Config
from whale.common.errors import BadDataError, ConfigError, MismatchError, MissingInputError
from whale.common.files import sha256_of_file
from whale.common.json_files import read_json
from whale.data.storage.files import inside

# What the folder of a dataset holds, by format; where two would fit, the first is believed.
MARKERS = {
    "rlds": ("dataset_info.json",),
    "lerobot": ("meta/info.json",),
    "hdf5": ("**/*.hdf5", "**/*.h5"),
    "npz": ("**/*.npz",),
}


class DescribedFile(Config):
    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class SourceDescription(Config):
    name: str = Field(pattern=r"^[a-z0-9_]+$")
    link: str = Field(pattern=r"^raw/[a-z0-9_]+$")
    files: list[DescribedFile] = Field(min_length=1)


@dataclass(frozen=True)
class Location:
    """The folder of the dataset, and what its files must be (empty: nothing was promised)."""

    directory: Path
    expected: Mapping[str, DescribedFile] = field(default_factory=dict)

    def check_sha256(self, file: str, sha256: str) -> None:
        """`file` is relative to the folder."""
        if file in self.expected and self.expected[file].sha256 != sha256:
            raise MismatchError(
                "a source file is not the described one", file=self.directory / file, found=sha256,
                expected=self.expected[file].sha256, remedy="download it again, or describe the new data",
            )  # fmt: skip


def describe_source(directory: Path, name: str) -> dict[str, Any]:
    """Sizes and sha256 of every regular file below `directory`, sorted by path: the content of <name>.json."""
    directory = Path(directory)
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise MissingInputError("no files to describe", file=directory)
    files = [
        {"path": path.relative_to(directory).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in paths
    ]
    return SourceDescription.parse({"name": name, "link": f"raw/{name}", "files": files}, file=directory).model_dump()


def described_files(raw: Path, links: Path = Path()) -> list[Path]:
    """The files that a description promises, each of which is compared with it when it is read; none for a folder."""
    if Path(raw).suffix != ".json":
        return []
    description = read_description(Path(raw))
    return [links / description.link / file.path for file in description.files]


def locate(raw: Path, dataset: str, version: str, links: Path = Path(), kind: str = "rlds") -> Location:
    """`raw`: the version folder, the dataset's, its parent, or a description file (whose link is below `links`).

    kind: the format of the spec, which says what such a folder holds.
    """
    raw = Path(raw)
    if raw.is_dir():
        return Location(_version_folder(raw, dataset, version, kind))
    if raw.suffix != ".json" or not raw.is_file():
        raise MissingInputError(
            "raw data not found", file=raw, remedy="a folder, or a file written by `whale data link`"
        )
    description = read_description(raw)
    root = links / description.link
    if not root.is_dir():
        remedy = f"`whale data link {description.name} PATH`"
        raise MissingInputError("the raw data are not linked", file=root, place=description.name, remedy=remedy)
    _check_sizes(root, description)
    directory = _version_folder(root, dataset, version, kind)
    prefix = directory.relative_to(root).as_posix()
    below = {file.path: file for file in description.files} if prefix == "." else _below(description, f"{prefix}/")
    return Location(directory, below)


def _below(description: SourceDescription, prefix: str) -> dict[str, DescribedFile]:
    below = [f for f in description.files if f.path.startswith(prefix)]
    return {f.path.removeprefix(prefix): f.model_copy(update={"path": f.path.removeprefix(prefix)}) for f in below}


def holds(folder: Path, kind: str) -> bool:
    """Whether a dataset of this format lies in the folder."""
    return any(next(folder.glob(pattern), None) is not None for pattern in MARKERS[kind])


def looks_like(folder: Path) -> str | None:
    """The format of what lies in a folder, by its files; None for none that we read."""
    return next((kind for kind in MARKERS if holds(folder, kind)), None)


def _version_folder(raw: Path, dataset: str, version: str, kind: str) -> Path:
    candidates = [raw, raw / version, raw / dataset, raw / dataset / version]
    for folder in candidates:
        if holds(folder, kind):
            return folder
    raise MissingInputError(
        f"no {' or '.join(MARKERS[kind])}", file=raw, expected=" or ".join(str(folder) for folder in candidates),
        remedy="name the dataset's folder, and check source.format, source.dataset and source.version of the spec",
    )  # fmt: skip


def read_description(path: Path) -> SourceDescription:
    """A description file; BadDataError if it is none."""
    try:
        return SourceDescription.parse(read_json(path, "no description of the raw files"), file=path)
    except ConfigError as error:
        raise BadDataError("not a source description", file=path, found=error.place) from None


def _check_sizes(root: Path, description: SourceDescription) -> None:
    for file in description.files:
        path = inside(root.resolve(), file.path, any_letters=True)
        size = path.stat().st_size if path.is_file() else None
        if size != file.bytes:
            raise MismatchError("a source file is not the described one", file=path, found=size, expected=file.bytes)
