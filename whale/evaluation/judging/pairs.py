"""Pairs of last frames to be judged: a recorded one and an imagined one of the same episode, as files.

DIR/source.json         {"data": "...", "model": "..."}: where the pairs come from, for the protocol
DIR/TEST/TASK/NAME/     recorded.png, imagined.png (or .jpg; RGB) and about.json: {"instruction": "...",
                        "truth": true | false | null, "recorded_meets": true | false | null}
`truth`: whether they are consistent, where that is known; `recorded_meets`: whether the recorded frame alone meets the
criteria of its task, so that it is consistent with itself.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator

from whale.common.config import Config
from whale.common.errors import BadDataError, BeyondLimitError, MissingInputError
from whale.common.files import write_atomically
from whale.common.json_files import read_json, write_json
from whale.common.limits import LANGUAGE_CHARACTERS, PAIR_FILE_BYTES, PAIRS, PAIRS_BYTES, SOURCE_CHARACTERS
from whale.data.storage import images

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,127}")


class About(Config):
    """about.json of a pair."""

    instruction: str = ""
    truth: bool | None = None
    recorded_meets: bool | None = None

    @field_validator("instruction")
    @classmethod
    def _is_no_speech(cls, instruction: str) -> str:
        """`max_length` of a Field would also refuse text that is no Unicode, which `quoted` makes harmless."""
        if len(instruction) > LANGUAGE_CHARACTERS:
            raise ValueError(f"{len(instruction)} characters, at most {LANGUAGE_CHARACTERS}")
        return instruction


class Source(Config):
    """source.json: a name of the data and one of the world model."""

    data: str = Field(max_length=SOURCE_CHARACTERS)
    model: str = Field(max_length=SOURCE_CHARACTERS)


@dataclass(frozen=True)
class Pair:
    """Frames uint8 [H, W, 3] RGB. `canary`: what kind of known-answer question this is, None for a real pair."""

    test: str
    task: str
    name: str
    recorded: np.ndarray
    imagined: np.ndarray
    about: About
    canary: str | None = None

    @property
    def key(self) -> str:
        return f"{self.test}/{self.task}/{self.name}"

    @property
    def digests(self) -> dict[str, str]:
        """sha256 of the pixels of both frames."""
        frames = {"recorded": self.recorded, "imagined": self.imagined}
        return {name: _digest(frame) for name, frame in frames.items()}


def write_pairs(directory: Path, source: Source, pairs: Sequence[Pair]) -> None:
    """As `read_pairs` reads them."""
    for pair in pairs:
        folder = directory / pair.key
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "recorded.png", images.encode_png(pair.recorded), lasts=False)
        write_atomically(folder / "imagined.png", images.encode_png(pair.imagined), lasts=False)
        write_json(folder / "about.json", pair.about.deciding_values())
    write_json(directory / "source.json", source.deciding_values())


def read_pairs(directory: Path) -> tuple[Source, list[Pair]]:
    """Sorted by key. BadDataError or MissingInputError that names the file; nothing in the folders is passed over."""
    remedy = f"name a folder of pairs; `whale evaluate consistency {directory} --simulate 20` writes some"
    path = directory / "source.json"
    source = Source.parse(read_json(path, "no pairs here: they come with a source.json", remedy), file=path)
    folders = sorted(islice(directory.glob("*/*/*"), PAIRS + 1))
    if not folders:
        raise MissingInputError("no pairs here", file=directory, expected="TEST/TASK/NAME/recorded.png, imagined.png",
                                remedy=remedy)  # fmt: skip
    if len(folders) > PAIRS:
        raise BeyondLimitError("too many pairs", file=directory, found=f"more than {PAIRS}", expected=f"<= {PAIRS}",
                               remedy="judge them in several folders")  # fmt: skip
    return source, list(_all_read(folders))


def digest_of(pairs: Sequence[Pair]) -> str:
    """First 16 digits of sha256 over names, recorded pixels and what was asked: the data, whatever was imagined."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(f"{pair.key}|{pair.about.instruction}|{pair.digests['recorded']}\n".encode())
    return found.hexdigest()[:16]


def _all_read(folders: Sequence[Path]) -> Iterator[Pair]:
    """All are held at once, so that it is their sum that is bounded."""
    held = 0
    for folder in folders:
        pair = _read(folder)
        held += pair.recorded.nbytes + pair.imagined.nbytes
        if held > PAIRS_BYTES:
            raise BeyondLimitError("pairs that unpack to too much", file=folder, found=f"{held} bytes up to this one",
                                   expected=f"<= {PAIRS_BYTES} bytes for all of them",
                                   remedy="judge them in several folders, or scale the frames down")  # fmt: skip
        yield pair


def _read(folder: Path) -> Pair:
    test, task, name = folder.parts[-3:]
    if not folder.is_dir() or not all(NAME.fullmatch(each) for each in (test, task, name)):
        raise BadDataError("not a pair", file=folder, expected="TEST/TASK/NAME/, letters, digits, _ + - only")
    about = About.parse(read_json(folder / "about.json", "a pair without its about.json"), file=folder / "about.json")
    return Pair(test, task, name, _frame(folder, "recorded"), _frame(folder, "imagined"), about)


def _frame(folder: Path, name: str) -> np.ndarray:
    found = [path for path in (folder / f"{name}.png", folder / f"{name}.jpg") if path.is_file()]
    if len(found) != 1:
        raise MissingInputError("a pair needs one frame of each kind", file=folder, place=name, found=len(found),
                                expected=f"{name}.png or {name}.jpg")  # fmt: skip
    if found[0].stat().st_size > PAIR_FILE_BYTES:
        raise BadDataError("file too large", file=found[0], found=found[0].stat().st_size,
                           expected=f"<= {PAIR_FILE_BYTES} bytes")  # fmt: skip
    try:
        return images.decode(found[0].read_bytes())
    except BadDataError as error:
        raise BadDataError(error.what, file=found[0], found=error.found, expected="a JPEG or PNG, RGB") from None


def _digest(frame: np.ndarray) -> str:
    return hashlib.sha256(f"{frame.shape}".encode() + np.ascontiguousarray(frame).tobytes()).hexdigest()
