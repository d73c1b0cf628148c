"""Whose signature counts, line by line, from the pinned root on.

A key counts at a line if it is the root, or if an `add` that counts stands above that line; and if every `revoke` of it
stands below: a line that is no ancestor of the revocation was made by somebody who should no longer sign, wherever in
the file it stands. Above a `replace-root` of the pinned root, the keys that it vouches for count: the hash of its
previous line covers every byte before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from whale.common.errors import RefusedError
from whale.lineage.ledger import Entry
from whale.lineage.signing import PUBLIC_KEYS, PublicKeys
from whale.lineage.statement import place_of
from whale.lineage.trust import TRUST_TYPE, Trust, TrustChange, change_of


@dataclass
class Verdict:
    """`faults`: (line, what is wrong) in the ledger's order; `signers`: keys that may sign the next line."""

    faults: list[tuple[Entry, str]] = field(default_factory=list)
    signers: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    replaced: list[TrustChange] = field(default_factory=list)


def judge(entries: Sequence[Entry], trust: Trust, root: Path = Path()) -> Verdict:
    """`entries`: a whole ledger whose hashes hold. Signature, signer and place of every line."""
    public, verdict = PublicKeys(root / PUBLIC_KEYS), Verdict()
    above = _ancestors(entries)
    signed: dict[str, str] = {}
    for entry in entries:
        try:
            signed[entry.id] = public.signer(entry.envelope)
        except RefusedError as error:
            verdict.faults.append((entry, f"{error.what}, {error.found}"))
    changes = {entry.id: change for entry in entries if entry.id in signed and (change := change_of(entry.statement))}
    dropped: dict[str, str] = {}
    while True:  # a change that does not count takes others with it
        chain = _Chain(trust.root, signed, changes, above)
        wrong = {each: fault for each in changes if (fault := chain.fault(each)) is not None}
        if not wrong:
            break
        dropped |= wrong
        changes = {each: change for each, change in changes.items() if each not in wrong}
    for entry in entries:
        if entry.id in signed and entry.statement.get("predicateType") == TRUST_TYPE and not change_of(entry.statement):
            verdict.faults.append((entry, "not a change of trust of this version"))
        elif entry.id in signed:
            fault = dropped.get(entry.id) or chain.fault(entry.id) or _misplaced(entry, trust, chain)
            if fault is not None:
                verdict.faults.append((entry, fault))
    verdict.faults.sort(key=lambda pair: pair[0].line)
    verdict.signers = {keyid for keyid in chain.added() | {trust.root} if keyid not in chain.revoked}
    verdict.known = {trust.root, *(each.keyid for each in changes.values())}
    verdict.known.update(*(each.vouched for each in changes.values()))
    verdict.replaced = [changes[each] for each in chain.replacements]
    return verdict


class _Chain:
    """What the changes of trust that count say of every line. `above`: id -> ids of all lines before it, and itself."""

    def __init__(
        self,
        root: str,
        signed: Mapping[str, str],
        changes: Mapping[str, TrustChange],
        above: Mapping[str, "_Lines"],
    ) -> None:
        self.root, self.signed, self.changes, self.above = root, signed, changes, above
        self.replacements = [
            each
            for each, change in changes.items()
            if change.action == "replace-root" and change.keyid == signed[each] == root
        ]
        self.revoked: dict[str, list[str]] = {}
        for each, change in changes.items():
            if change.action == "revoke":
                self.revoked.setdefault(change.keyid, []).append(each)

    def vouched_by(self, entry_id: str) -> TrustChange | None:
        """The replacement of the root that stands below this line."""
        return next(
            (self.changes[each] for each in self.replacements if each != entry_id and entry_id in self.above[each]),
            None,
        )

    def added(self, above: "_Lines | None" = None) -> set[str]:
        """Keys that were added (above a line), and not before the root was replaced."""
        return {
            change.keyid
            for each, change in self.changes.items()
            if change.action == "add" and (above is None or each in above) and self.vouched_by(each) is None
        }

    def fault(self, entry_id: str) -> str | None:
        """What is wrong with the signer of a line; None if that key counts there."""
        keyid, above = self.signed[entry_id], self.above[entry_id]
        if (vouching := self.vouched_by(entry_id)) is not None:
            return (
                None if keyid in vouching.vouched else f"signed by {keyid[:16]}, which the new root does not vouch for"
            )
        if keyid != self.root and keyid not in self.added(above):
            return f"signed by {keyid[:16]}, which no trusted key has added"
        if any(entry_id not in self.above[each] for each in self.revoked.get(keyid, ())):
            return f"signed by {keyid[:16]}, which was revoked"
        change = self.changes.get(entry_id)
        if change is not None and change.action not in ("add", "revoke") and entry_id not in self.replacements:
            return "not a change of trust by the root that is pinned"
        return None


def _misplaced(entry: Entry, trust: Trust, chain: _Chain) -> str | None:
    """An envelope of another line or ledger."""
    place = place_of(entry.statement)
    if place is None and chain.vouched_by(entry.id) is not None:
        return None  # from before envelopes were bound
    expected = {"ledger": trust.ledger, "seq": entry.seq, "prev": list(entry.prev)}
    if place == expected:
        return None
    known = place if isinstance(place, Mapping) else {}
    wrong = [name for name, value in expected.items() if known.get(name) != value]
    return f"signed for another place: {', '.join(wrong)}"


class _Lines:
    """A set of lines, as bits."""

    def __init__(self, bits: int, numbers: Mapping[str, int]):
        self.bits, self._numbers = bits, numbers

    def __contains__(self, entry_id: str) -> bool:
        return bool(self.bits >> self._numbers[entry_id] & 1)


def _ancestors(entries: Iterable[Entry]) -> dict[str, _Lines]:
    numbers: dict[str, int] = {}
    found: dict[str, _Lines] = {}
    for number, entry in enumerate(entries):
        numbers[entry.id] = number
        bits = 1 << number
        for each in entry.prev:
            bits |= found[each].bits
        found[entry.id] = _Lines(bits, numbers)
    return found
