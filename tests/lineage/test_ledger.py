"""The ledger survives torn writes, writers at once and merges of branches; what is lost stays visible."""

import multiprocessing
import os
import resource
from itertools import pairwise

import pytest

from whale.common.errors import CannotWriteError, MismatchError, RefusedError
from whale.common.limits import JSON_VALUES, LEDGER_LINE_BYTES
from whale.lineage import keys, ledger, signing
from whale.lineage.statement import in_toto
from whale.lineage.trust import sign_into_ledger


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(number: int) -> str:
    return sign_into_ledger(in_toto("urn:test:1", [], {"number": number}))[0]


def test_each_line_names_the_one_before_and_head_the_last():
    ids = [add(number) for number in range(3)]
    entries = ledger.read()
    assert [entry.id for entry in entries] == ids
    assert [entry.prev for entry in entries] == [(), (ids[0],), (ids[1],)]
    assert ledger.HEAD.read_text() == ids[2] + "\n"
    ledger.check_head(entries)


def test_a_torn_last_line_is_refused_by_readers_and_cut_off_by_the_next_writer():
    first = add(0)
    with open(ledger.LEDGER, "ab") as file:
        file.write(b'{"dsse":{"payload":"half')
    with pytest.raises(MismatchError, match="torn"):
        ledger.read()
    add(1)
    assert [entry.prev for entry in ledger.read()] == [(), (first,)]


def test_a_line_that_was_cut_off_is_missed_also_after_the_next_run():
    add(0)
    lost = add(1)
    lines = ledger.LEDGER.read_bytes().split(b"\n")
    ledger.LEDGER.write_bytes(lines[0] + b"\n")
    add(2)
    with pytest.raises(MismatchError, match=lost[:16]):
        ledger.check_head(ledger.read())


def test_a_run_killed_between_its_line_and_head_is_no_alarm():
    old = add(0)
    add(1)
    ledger.HEAD.write_text(old + "\n")
    ledger.check_head(ledger.read())
    add(2)
    ledger.check_head(ledger.read())


def test_after_a_union_merge_the_next_line_names_both_heads():
    add(0)
    base = ledger.LEDGER.read_bytes()
    ours = add(1)
    one = ledger.LEDGER.read_bytes()
    ledger.LEDGER.write_bytes(base)
    theirs = add(2)
    ledger.LEDGER.write_bytes(one + ledger.LEDGER.read_bytes()[len(base) :])
    ledger.HEAD.write_text(f"{ours}\n{theirs}\n")
    joined = add(3)
    assert ledger.read()[-1].id == joined and ledger.read()[-1].prev == (ours, theirs)


def test_a_line_that_the_disk_takes_only_a_part_of_is_told_and_leaves_the_ledger_as_it_was():
    """The system writes up to the limit, says how much, and refuses the rest: a full disk does the same."""
    first = add(0)
    size = ledger.LEDGER.stat().st_size

    def write_little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        with pytest.raises(CannotWriteError, match=r"ledger\.jsonl"):
            ledger.append(lambda place: ledger.read()[0].envelope)
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=write_little)
    child.start()
    child.join()
    assert (child.exitcode, ledger.LEDGER.stat().st_size) == (0, size)
    assert add(1) and [entry.prev for entry in ledger.read()] == [(), (first,)]


def test_writers_at_once_make_one_chain():
    add(0)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=lambda: [add(number) for number in range(5)]) for _ in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    entries = ledger.read()
    assert len(entries) == 21
    assert all(after.prev == (before.id,) for before, after in pairwise(entries))


def test_a_changed_payload_and_an_unknown_key_are_refused(tmp_path):
    add(0)
    (entry,) = ledger.read()
    assert signing.verify(entry.envelope)["predicate"]["number"] == 0
    foreign = signing.sign({"number": 0}, keys.make_key(tmp_path / "stranger.pem"))
    for envelope in (entry.envelope | {"payload": foreign["payload"][:-4] + "fQ=="}, foreign):
        with pytest.raises(RefusedError):
            signing.verify(envelope)


def test_a_line_that_no_reader_would_take_is_never_written():
    """The limits are the reader's own: bytes of a line, values in it, and that it is a statement at all."""
    first = add(0)
    before = ledger.LEDGER.read_bytes(), ledger.HEAD.read_bytes()
    for statement in (in_toto("urn:test:1", [], {"text": "x" * LEDGER_LINE_BYTES}),
                      in_toto("urn:test:1", [], {"many": [0] * (JSON_VALUES + 1)})):  # fmt: skip
        with pytest.raises(CannotWriteError, match=r"(?s)no ledger can hold.*ledger\.jsonl.*remedy"):
            sign_into_ledger(statement)
    with pytest.raises(CannotWriteError, match="no ledger can hold"):
        ledger.append(lambda place: {"payloadType": "text/plain", "payload": ""})
    assert (ledger.LEDGER.read_bytes(), ledger.HEAD.read_bytes()) == before
    assert add(1) and [entry.prev for entry in ledger.read()] == [(), (first,)]
