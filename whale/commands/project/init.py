"""`whale init`: what DVC needs in a fresh clone, made safely."""

import configparser
import io
import os
from pathlib import Path

from whale.common.files import write_atomically
from whale.runtime.workers import environment

EXAMPLE = "Example: whale init"
SITE_CACHE = Path(".dvc/tmp/site")


def init() -> None:
    """Prepare a fresh clone. Makes .dvc/tmp/site (0700), named in .dvc/config.local, and the Ray token. Idempotent.

    DVC's site cache holds pickles, by default in a folder that every user shares; and a relative path in the config
    resolves against the current folder. So: inside the project, absolute, made before DVC makes it with 0777.
    """
    environment.apply()
    site = SITE_CACHE.absolute()
    site.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(site, 0o700)
    settings = {"site_cache_dir": str(site)}
    if not Path(".git").exists():  # an archive without history: statements will name no commit
        settings["no_scm"] = "true"
    _set_local(Path(".dvc/config.local"), settings)


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
