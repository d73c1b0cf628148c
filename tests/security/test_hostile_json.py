"""S10: whoever reads JSON of the project's own folders ends in a named error or a finding, whatever lies there."""

import base64
from pathlib import Path

import pytest

from whale.audit.checks.fsck import cache_folder, fsck
from whale.audit.exports.croissant import croissant
from whale.audit.exports.model_signature import verify_model_signature
from whale.audit.facts import tensor_sha256
from whale.common.errors import BadDataError, MismatchError, RefusedError, WhaleError
from whale.common.files import md5_of_file
from whale.common.json_files import remembered
from whale.guard.lock import acquire, lock_path
from whale.lineage import ledger
from whale.lineage.signing import PAYLOAD_TYPE, PublicKeys, payload_of, sign
from whale.lineage.summary import LINEAGE_NAME, read_summary
from whale.lineage.taint import TAINTS_DIR, kept_taints
from whale.lineage.trust import TRUST, read_trust
from whale.tracking.spooled_run import lines_of

HOSTILE = {
    "deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "half a pair": b'"\\ud800"',
    "a list": b"[]",
    "a number": b"1",
}


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def hostile(request, tmp_path, monkeypatch) -> bytes:
    monkeypatch.chdir(tmp_path)
    return request.param


def lies(path: Path, payload: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)
    return path


def test_a_cache_is_as_good_as_absent(hostile):
    assert remembered(lies(Path("cache.json"), hostile)) == {}


def test_a_taint_that_cannot_be_read_is_named_and_never_passes_for_none(hostile):
    path = lies(TAINTS_DIR / "x.dsse.json", hostile)
    with pytest.raises(MismatchError, match="not a taint that can be read") as caught:
        kept_taints()
    assert caught.value.file == path


def test_a_lineage_that_cannot_be_read_never_passes_for_one_that_was_never_there(hostile):
    assert read_summary(Path("published")) is None
    lies(Path("published") / LINEAGE_NAME, hostile)
    with pytest.raises(BadDataError, match=r"lineage\.json"):
        read_summary(Path("published"))


def test_trust_ledger_and_signatures_are_told(hostile):
    lies(TRUST, hostile)
    lies(ledger.LEDGER, hostile + b"\n")
    for read in (read_trust, ledger.read):
        with pytest.raises(MismatchError):
            read()
    with pytest.raises(MismatchError, match="not a model signature"):
        verify_model_signature(Path("lineage"), lies(Path("model.sig"), hostile))


def test_an_envelope_is_a_mapping_with_an_object_inside(hostile, tmp_path):
    for envelope in (hostile, [], None, {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(hostile).decode()}):
        for read in (payload_of, PublicKeys(tmp_path).signer):
            with pytest.raises(RefusedError):
                read(envelope)


def test_what_is_signed_is_a_mapping():
    with pytest.raises(TypeError, match="not a statement: list"):
        sign([("predicateType", "x")], Path("no key is needed to refuse it"))


def test_the_list_of_a_cached_folder_that_is_none_is_a_finding(hostile):
    draft = lies(Path("draft"), hostile)
    name = md5_of_file(draft)
    lies(cache_folder() / "files/md5" / name[:2] / f"{name[2:]}.dir", hostile)
    found = fsck().findings
    assert [each.kind for each in found] == ([] if hostile == b"[]" else ["mismatch"])


def test_an_export_and_a_header_name_the_file(hostile):
    lies(Path("set/manifest.json"), hostile)
    lies(Path("set/contract.json"), hostile)
    header = lies(Path("model.safetensors"), len(hostile).to_bytes(8, "little") + hostile)
    with pytest.raises(BadDataError, match=r"model\.safetensors"):
        tensor_sha256(header)
    if hostile not in (b"[]", b"1"):
        with pytest.raises(BadDataError, match=r"manifest\.json"):
            croissant(Path("set"))


def test_the_holder_of_a_lock_may_have_written_anything(hostile):
    import fcntl
    import os

    path = lies(lock_path(Path(".whale"), Path("out")), hostile)
    with open(path, "rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        pid = os.fork()
        if not pid:
            try:
                acquire(path, Path("out"))
            except WhaleError as error:
                os._exit(error.exit_code)
            except BaseException:
                os._exit(99)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75


def test_a_line_of_a_spool_that_is_none_is_counted(hostile):
    good = b'{"kind": "end", "time": 1.0, "status": "FINISHED", "tags": {}}'
    lines, torn = lines_of(b"\n".join([good, hostile, b'{"kind": "metrics", "time": 1}', good[:30]]), "x.jsonl")
    assert ([line["kind"] for line in lines], torn) == (["end"], 3)
