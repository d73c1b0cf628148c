"""sha256 of files, remembered as long as a file's path, size, times and inode stay the same."""

import os
from pathlib import Path

from whale.common.files import md5_of_file, sha256_of_file
from whale.lineage.own_cache import recall, remember


class FileDigests:
    """A cache of sha256 by (path, size, mtime_ns, ctime_ns, inode); losing its file loses nothing but time.

    ctime is part of the key because an edit can restore mtime but not ctime. `paranoid` hashes everything again.
    `algorithm`: sha256, or md5 to compare with what DVC noted.
    """

    def __init__(self, cache_path: Path | None = None, paranoid: bool = False, algorithm: str = "sha256"):
        self.cache_path, self.paranoid, self.algorithm = cache_path, paranoid, algorithm
        self.hashed: set[str] = set()  # files read by this object, by their absolute name
        self._known: dict[str, list] = _read_cache(cache_path)
        self._is_changed = False

    def __call__(self, path: Path) -> str:
        """Hex sha256 of the file at `path`."""
        name, key = os.path.join(os.getcwd(), path), _stat_key(path)
        known = self._known.get(name)
        if known is not None and known[:-1] == key and not self.paranoid:
            return known[-1]
        digest = md5_of_file(path) if self.algorithm == "md5" else sha256_of_file(path)
        self.hashed.add(name)
        self._known[name] = [*key, digest]
        self._is_changed = True
        return digest

    def save(self) -> None:
        """Write the cache, together with what other processes saved meanwhile; files that are gone are forgotten."""
        if self.cache_path is None or not self._is_changed:
            return
        self._is_changed = False  # first: what another thread learns meanwhile is saved the next time
        merged = {**_read_cache(self.cache_path), **self._known}
        kept = {name: row for name, row in merged.items() if os.path.exists(name)}
        remember(self.cache_path, kept)


def _stat_key(path: Path) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_cache(path: Path | None) -> dict[str, list]:
    return {name: row for name, row in recall(path).items() if isinstance(row, list) and len(row) == 5}
