"""`whale init`: what DVC needs in a fresh clone, made safely."""

import configparser
import io
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from whale.common.errors import CannotWriteError
from whale.common.files import write_atomically
from whale.guard.leftovers import clear_after_the_dead
from whale.runtime.workers.process import environment

EXAMPLE = "Example: whale init"
SITE_CACHE = Path(".dvc/tmp/site")  # where there is no home


def init() -> None:
    """Prepare a fresh clone. A private site cache for DVC, named in .dvc/config.local, and the Ray token. Idempotent.

    Also removes temporary files of killed stages. DVC's site cache holds pickles, by default in a folder that every
    user shares; a relative path in the config resolves against the current folder, and one inside the project would be
    made anew, with 0777, at its old place when the project has moved. So: ~/.cache/whale/dvc-site, made here with 0700.
    """
    environment.apply()
    for path in clear_after_the_dead(Path.cwd()):
        print(f"removed what a killed process left: {path}")
    site = _site_cache()
    if (old := SITE_CACHE.absolute()) != site:
        shutil.rmtree(old, ignore_errors=True)
    settings = {"site_cache_dir": str(site)}
    if not Path(".git").exists():  # an archive without history: statements will name no commit
        settings["no_scm"] = "true"
    _set_local(Path(".dvc/config.local"), settings)


def _site_cache() -> Path:
    """A folder of this user alone, wherever the project lies."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for site in (Path(base) / "whale" / "dvc-site", SITE_CACHE.absolute()):
        with suppress(OSError):
            site.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = site.lstat()
            if site.is_absolute() and stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid():
                os.chmod(site, 0o700)
                return site
    raise CannotWriteError("no place for DVC's site cache", file=SITE_CACHE, expected="a folder of your own",
                           remedy="set XDG_CACHE_HOME to a folder of yours")  # fmt: skip


def site_cache() -> Path:
    """DVC's site cache as .dvc/config.local names it, else the place that `whale init` would take last."""
    config = configparser.RawConfigParser()
    config.read(".dvc/config.local")
    return Path(config.get("core", "site_cache_dir", fallback=str(SITE_CACHE)))


def _set_local(path: Path, settings: dict[str, str]) -> None:
    """Set keys of the section [core]; other lines stay as they are."""
    config = configparser.RawConfigParser()
    config.read(path)
    before = {name: dict(config[name]) for name in config.sections()}
    if not config.has_section("core"):
        config.add_section("core")
    for name, value in settings.items():
        config.set("core", name, value)
    if before != {name: dict(config[name]) for name in config.sections()}:
        text = io.StringIO()
        config.write(text)
        write_atomically(path, text.getvalue().encode())
