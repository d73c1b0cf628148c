"""A second home of the saved states, at any fsspec URI (a bucket), so that a training outlives its machine and disk.

The folder on this disk stays the one that training reads and writes. A state is copied after it was published here, its
MANIFEST.json last: without it a state does not exist there either. What comes back is verified before it gets a name.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from whale.common import files
from whale.common.errors import BadDataError, MissingInputError, WhaleError
from whale.common.files import MANIFEST_NAME
from whale.common.limits import STATE_MANIFEST_BYTES
from whale.seal import read_manifest, verify_sealed


class StateMirror:
    """Copies of the folders `step-*` below `uri`, and of `notes`, files that say where a state came from."""

    def __init__(self, uri: str, notes: Sequence[Path] = ()):
        self.uri, self.notes = uri.rstrip("/"), notes

    def push(self, folder: Path, keep: Iterable[str]) -> str | None:
        """Copy `folder`, then remove all but `keep`; returns what went wrong, for the state here is good as it is."""
        try:
            filesystem, root = self._open()
            remote = f"{root}/{folder.name}"
            filesystem.makedirs(remote, exist_ok=True)
            for note in filter(Path.is_file, self.notes):
                filesystem.put_file(str(note), f"{root}/{note.name}")
            names = sorted(read_manifest(folder))
            for name in [*names, MANIFEST_NAME]:
                filesystem.put_file(str(folder / name), f"{remote}/{name}")
            for name in set(self._names(filesystem, root)) - set(keep):
                if filesystem.exists(f"{root}/{name}/{MANIFEST_NAME}"):
                    filesystem.rm_file(f"{root}/{name}/{MANIFEST_NAME}")
                filesystem.rm(f"{root}/{name}", recursive=True)
        except Exception as error:  # of fsspec or whatever client is below it
            return f"{type(error).__name__}: {error}"[:300]
        return None

    def names(self) -> list[str]:
        """Folders that lie there, whole or not; MissingInputError when the place cannot be read."""
        try:
            return self._names(*self._open())
        except Exception as error:
            raise self._unreadable(error) from error

    def pull(self, name: str, directory: Path) -> Path | None:
        """Bring the state `name` to `directory / name`; None when it is not whole there.

        Raises MismatchError or BadDataError when its bytes are not those of its manifest, MissingInputError when the
        place cannot be read, CannotWriteError when this disk refuses.
        """
        final = directory / name
        directory.mkdir(parents=True, exist_ok=True)
        temporary = files.temporary_path(final)
        temporary.mkdir()
        try:
            filesystem, root = self._open()
            if not filesystem.exists(f"{root}/{name}/{MANIFEST_NAME}"):
                return None
            for note in self.notes:
                if not note.is_file() and filesystem.exists(f"{root}/{note.name}"):
                    fetched = temporary / f"note-{note.name}"
                    _get(filesystem, f"{root}/{note.name}", fetched, STATE_MANIFEST_BYTES)
                    files.write_atomically(note, fetched.read_bytes())
                    fetched.unlink()  # no part of the state
            _get(filesystem, f"{root}/{name}/{MANIFEST_NAME}", temporary / MANIFEST_NAME, STATE_MANIFEST_BYTES)
            for file, row in read_manifest(temporary).items():
                _get(filesystem, f"{root}/{name}/{file}", temporary / file, row["bytes"])
            verify_sealed(temporary, files.sha256_of_file)
            if _is_same(final, temporary):  # another worker of this machine was faster
                return final
            if final.exists():  # it did not verify
                shutil.rmtree(final)
            temporary.rename(final)
            files.sync_file(directory)
        except WhaleError:
            raise
        except Exception as error:
            raise self._unreadable(error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return final

    def _open(self) -> tuple[Any, str]:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(self.uri)
        filesystem.invalidate_cache()  # another machine may have written
        return filesystem, root

    def _names(self, filesystem: Any, root: str) -> list[str]:
        if not filesystem.exists(root):
            return []
        names = [path.rstrip("/").rpartition("/")[2] for path in filesystem.ls(root, detail=False)]
        return sorted(name for name in names if name.startswith("step-"))

    def _unreadable(self, error: Exception) -> MissingInputError:
        return MissingInputError(
            "the second home of the saved states cannot be read",
            file=self.uri,
            place="execution.state_storage",
            found=f"{type(error).__name__}: {error}"[:300],
            expected="an fsspec URI that this machine may read and write",
            remedy="mend the access, or take state_storage out to go on with the states of this disk",
        )


def _is_same(folder: Path, other: Path) -> bool:
    """Whether `folder` holds, whole, what the verified folder `other` holds."""
    manifest = folder / MANIFEST_NAME
    if not manifest.is_file() or manifest.read_bytes() != (other / MANIFEST_NAME).read_bytes():
        return False
    try:
        verify_sealed(folder, files.sha256_of_file)
    except WhaleError:
        return False
    return True


def _get(filesystem: Any, remote: str, path: Path, limit: int) -> None:
    """One file of at most `limit` bytes, whatever the other side sends; CannotWriteError when this disk refuses."""
    left = limit + 1
    with filesystem.open(remote, "rb") as source, open(path, "wb", buffering=0) as target:
        while left and (chunk := source.read(min(files.CHUNK_BYTES, left))):
            with files.refusals_named(path):
                target.write(chunk)
            left -= len(chunk)
    if not left:
        raise BadDataError("larger than its manifest says", file=remote, expected=f"{limit} bytes")
