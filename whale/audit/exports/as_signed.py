"""Nothing leaves the project under its name that is not, byte by byte, what was signed."""

from pathlib import Path

from whale.audit.run_graph import Target
from whale.common.errors import CannotWriteError, ConfigError, MismatchError
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.seal import verify_sealed


def require_as_signed(target: Target) -> None:
    """MismatchError if the file, or for a sealed folder any file in it, is not what its run's statement says."""
    if (found := sha256_of_file(target.path)) != target.sha256:
        raise MismatchError("not what was signed", file=target.path, found=found, expected=target.sha256)
    if target.path.name == MANIFEST_NAME:
        verify_sealed(target.folder, sha256_of_file)


def require_folder_as_signed(target: Target) -> None:
    """Also a ConfigError if it is not a published folder."""
    if target.path.name != MANIFEST_NAME:
        raise ConfigError("not a published folder", file=target.path, expected=f"a folder with {MANIFEST_NAME}")
    require_as_signed(target)


def require_new(out: Path) -> None:
    """CannotWriteError if something lies there: an export never mixes with what was there before."""
    if out.exists():
        raise CannotWriteError("the folder exists", file=out, remedy="name another, or remove it")
