"""One root, pinned once and told; a key counts by a signed statement alone; a lost one is never replaced in silence."""

import os
from pathlib import Path

import pytest

from whale.audit.checks.findings import Report
from whale.audit.checks.ledger_check import check_ledger
from whale.common.errors import CannotWriteError, ConfigError, MissingInputError, RefusedError
from whale.common.json_files import canonical_json
from whale.lineage import keys, ledger, signing
from whale.lineage.statement import in_toto
from whale.lineage.trust import TRUST, change_trust, read_trust, replace_root, require_signer, sign_into_ledger


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.CONFIG_VARIABLE, str(tmp_path / "config"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def add(number: int = 0) -> str:
    return sign_into_ledger(in_toto("urn:test:1", [], {"number": number}))[0]


def findings(**options) -> list[str]:
    report = Report()
    check_ledger(report, **options)
    return [f"{each.kind} {each.where}: {each.what}" for each in report.findings]


def public_half(private: Path) -> Path:
    keyid, pem = signing.public_half(private)
    path = private.parent / f"{keyid}.pub"
    path.write_bytes(pem)
    return path


def test_the_first_signature_makes_the_key_pins_the_root_and_says_so_once(capsys):
    add()
    said = capsys.readouterr().err
    root = read_trust().root
    assert root in said and str(keys.key_path(root)) in said and "--expect-root" in said
    add()
    assert capsys.readouterr().err == ""
    assert keys.key_path(root).stat().st_mode & 0o777 == 0o600
    assert [path.stem for path in signing.PUBLIC_KEYS.iterdir()] == [root]
    assert findings() == [] == findings(expect_root=root)
    assert "not the root that was expected" in findings(expect_root="0" * 64)[0]


def test_the_key_lies_in_the_users_settings_and_not_in_the_project(monkeypatch, tmp_path):
    for name in ("WHALE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert keys.config_dir() == tmp_path / "home/.config/whale"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    add()
    assert [path.stem for path in (tmp_path / "xdg/whale/keys").iterdir()] == [read_trust().root]
    assert not list(Path().rglob("*.pem"))


def test_two_projects_of_one_user_have_a_root_each_and_a_line_of_one_is_no_line_of_the_other(tmp_path, monkeypatch):
    add()
    (foreign,) = ledger.read()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    add()
    assert findings() == []
    ledger.append(lambda place: foreign.envelope)
    assert "no valid signature" in findings()[0]


def test_two_projects_with_one_named_key_do_not_share_lines(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.KEY_VARIABLE, str(keys.make_key(tmp_path / "own.pem")))
    add()
    (foreign,) = ledger.read()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    add()
    ledger.append(lambda place: foreign.envelope)
    assert findings() == ["signature ledger line 2: signed for another place: ledger, seq, prev"]


def test_an_envelope_that_is_replayed_at_another_place_is_named():
    add(1)
    add(2)
    first = ledger.read()[0]
    ledger.append(lambda place: first.envelope)
    assert findings() == ["signature ledger line 3: signed for another place: seq, prev"]


def test_a_lost_key_is_told_and_never_replaced_in_silence(capsys):
    add()
    root = read_trust().root
    keys.key_path(root).unlink()
    capsys.readouterr()
    with pytest.raises(RefusedError, match="replace-root") as error:
        add()
    assert root in str(error.value) and not list((keys.config_dir() / "keys").iterdir())
    assert len(ledger.read()) == 1


def test_a_replaced_root_is_told_until_its_fingerprint_is_expected():
    add()
    old = read_trust().root
    keys.key_path(old).unlink()
    trust = replace_root("the disk died", (old,))
    add()
    assert findings(expect_root=trust.root) == []
    (told,) = findings()
    assert "the root was replaced" in told and "the disk died" in told
    assert len(findings(expect_root=old)) == 2


def test_a_key_is_added_and_revoked_by_statements_and_then_signs_no_more(monkeypatch, tmp_path):
    add()
    private = keys.make_key(tmp_path / "colleague.pem")
    public = public_half(private)
    monkeypatch.setenv(keys.KEY_VARIABLE, str(private))
    with pytest.raises(RefusedError, match="no key here may sign"):
        add()
    monkeypatch.delenv(keys.KEY_VARIABLE)
    change_trust("add", public, "a colleague")
    monkeypatch.setenv(keys.KEY_VARIABLE, str(private))
    add()
    assert findings() == []
    monkeypatch.delenv(keys.KEY_VARIABLE)
    before = ledger.LEDGER.read_bytes()
    change_trust("revoke", signing.PUBLIC_KEYS / public.name, "left")
    assert findings() == []
    trust = read_trust()
    place = {"ledger": trust.ledger, "prev": [ledger.read()[-1].id], "seq": 5}
    late = signing.sign(in_toto("urn:test:1", [], {"place": place}), private)
    ledger.append(lambda _: late)
    assert findings() == [f"signature ledger line 5: signed by {public.stem[:16]}, which was revoked"]
    # nor at a place before the revocation, as a branch that somebody merges
    after = ledger.LEDGER.read_bytes()[len(before) :].splitlines(keepends=True)[0]
    ledger.LEDGER.write_bytes(before + after)
    ledger.HEAD.write_text(ledger.read()[-1].id + "\n")
    place = {"ledger": trust.ledger, "prev": [ledger.read()[2].id], "seq": 4}
    forked = signing.sign(in_toto("urn:test:1", [], {"place": place}), private)
    row = {"dsse": forked, "prev": place["prev"], "seq": 4}
    ledger.LEDGER.write_bytes(before + canonical_json(row).encode() + b"\n" + after)
    assert f"signed by {public.stem[:16]}, which was revoked" in " ".join(findings())


def test_a_rotated_root_stays_the_beginning_of_trust():
    add()
    root = read_trust().root
    public = public_half(keys.make_key())
    change_trust("add", public, "yearly")
    change_trust("revoke", signing.PUBLIC_KEYS / f"{root}.pub", "yearly")
    keys.key_path(root).unlink()
    add()
    assert findings(expect_root=root) == [] and read_trust().signers == (public.stem,)
    with pytest.raises(RefusedError, match="last key"):
        change_trust("revoke", signing.PUBLIC_KEYS / public.name, "all gone")


def forged_by(private: Path, **changed) -> None:
    """Whoever can write here signs the next line with a key of theirs, for its right place."""
    trust = read_trust()

    def seal(place):
        return signing.sign(in_toto("urn:test:1", [], {"place": {"ledger": trust.ledger, **place}} | changed), private)

    ledger.append(seal)


@pytest.mark.parametrize("how", ["alone", "with its public half", "in trust.json", "by its own word", "as the root"])
def test_a_key_that_nobody_let_in_is_a_finding_however_it_comes(how, tmp_path):
    add()
    trust = read_trust()
    private = keys.make_key(tmp_path / "stranger.pem")
    keyid, pem = signing.public_half(private)
    if how != "alone":
        (signing.PUBLIC_KEYS / f"{keyid}.pub").write_bytes(pem)
    if how == "in trust.json":
        TRUST.write_bytes(type(trust)(trust.ledger, trust.root, (trust.root, keyid)).payload())
    if how == "as the root":
        TRUST.write_bytes(type(trust)(trust.ledger, keyid, (keyid,)).payload())
    if how == "by its own word":
        subject = {"action": "add", "keyid": keyid, "because": "I say so", "on": "2026-12-01"}
        place = {"ledger": trust.ledger, "prev": [ledger.read()[-1].id], "seq": 2}
        own = signing.sign(in_toto("urn:whale:trust:1", [], {**subject, "place": place}), private)
        ledger.append(lambda _: own)
    forged_by(private)
    assert findings() and all(each.startswith("signature") for each in findings())


def test_a_public_key_more_is_a_finding_though_nobody_used_it(tmp_path):
    add()
    public = public_half(keys.make_key(tmp_path / "stranger.pem"))
    (signing.PUBLIC_KEYS / public.name).write_bytes(public.read_bytes())
    assert findings() == ["signature public keys: a key that no trusted key has added"]


def test_a_ledger_without_a_root_is_unsigned_to_whoever_reads_and_refused_to_whoever_writes():
    add()
    TRUST.unlink()
    assert "no root of trust is pinned" in findings()[0]
    with pytest.raises(RefusedError, match="no root of trust"):
        add()


def test_a_secret_that_others_can_read_is_refused_and_so_is_one_among_caches(monkeypatch):
    add()
    path = keys.key_path(read_trust().root)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        add()
    path.chmod(0o600)
    Path(".whale").mkdir()
    monkeypatch.setenv(keys.KEY_VARIABLE, str(keys.make_key(Path(".whale/own.pem"))))
    with pytest.raises(ConfigError, match="among caches"):
        require_signer()


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_home_that_is_read_only_is_told_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir(mode=0o500)
    monkeypatch.setenv(keys.CONFIG_VARIABLE, str(tmp_path / "home/whale"))
    with pytest.raises(CannotWriteError, match="WHALE_CONFIG_DIR"):
        add()


def test_a_home_that_is_no_folder_is_told_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv(keys.CONFIG_VARIABLE, str(tmp_path / "home/whale"))
    with pytest.raises(CannotWriteError, match="WHALE_CONFIG_DIR"):
        require_signer()
    assert not TRUST.exists() and keys.mac("cache", b"") is None


def test_an_empty_ledger_proves_nothing():
    with pytest.raises(MissingInputError):
        ledger.read()
    Path("lineage").mkdir()
    ledger.LEDGER.touch()
    assert findings() == ["missing ledger: the ledger is empty"]
