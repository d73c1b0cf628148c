"""A secret is whole from the first moment, never replaced, never left beside its place, and its lack is told."""

import os
import stat
import subprocess

import pytest

from whale.common.errors import CannotWriteError
from whale.common.files import HOST
from whale.lineage import keys, signing


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.CONFIG_VARIABLE, str(tmp_path / "whale"))
    keys._secret.cache_clear()
    keys._tell_once.cache_clear()
    yield tmp_path / "whale"
    keys._secret.cache_clear()
    keys._tell_once.cache_clear()


def test_a_key_is_named_by_its_public_half_and_nobody_elses_to_read(settings):
    path = keys.make_key()
    assert signing.public_half(path)[0] == path.stem and path.parent == settings / "keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "dangling link", "link"])
def test_what_lies_where_a_key_is_asked_for_stays_and_is_told(tmp_path, kind):
    to, other = tmp_path / "stick/own.pem", tmp_path / "other"
    to.parent.mkdir()
    if kind == "file":
        to.write_text("mine")
    else:
        to.symlink_to(other)
    if kind == "link":
        other.write_text("mine")
    with pytest.raises(CannotWriteError, match="the file exists"):
        keys.make_key(to)
    assert list(to.parent.iterdir()) == [to] and to.is_symlink() == (kind != "file")
    assert not other.exists() if kind == "dangling link" else to.read_text() == "mine"


def test_a_draft_that_a_killed_process_left_goes_with_the_next_key(settings):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (settings / "keys").mkdir(parents=True)
    draft = settings / "keys" / f".{'0' * 64}.pem.tmp-{HOST}-{gone.pid}-{'0' * 32}"
    living = settings / "keys" / f".{'1' * 64}.pem.tmp-{HOST}-{os.getppid()}-{'0' * 32}"
    draft.write_text("a secret")
    living.write_text("a secret")
    keys.make_key()
    assert not draft.exists() and living.exists()


@pytest.mark.parametrize("kind", ["others can read it", "another size", "a folder", "no home"])
def test_a_machine_that_remembers_nothing_says_so_once(settings, kind, capsys, monkeypatch):
    secret = settings / "machine-secret"
    settings.mkdir()
    if kind == "others can read it":
        secret.write_bytes(bytes(keys.SECRET_BYTES))
        secret.chmod(0o644)
    elif kind == "another size":
        secret.touch(0o600)
    elif kind == "a folder":
        secret.mkdir(0o700)
    else:
        monkeypatch.setenv(keys.CONFIG_VARIABLE, "/proc/no/place")
    assert [keys.mac("cache", b"") for _ in range(3)] == [None] * 3
    said = capsys.readouterr().err
    assert said.count("nothing is remembered") == 1 and ("machine-secret" in said or "/proc/no" in said)


def test_a_sound_secret_is_kept_and_nothing_is_said(settings, capsys):
    first = keys.mac("cache", b"x")
    keys._secret.cache_clear()
    assert first is not None and keys.mac("cache", b"x") == first and not capsys.readouterr().err
