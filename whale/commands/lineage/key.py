"""`whale lineage key`: who may sign for this project. Every change is a signed line of the ledger."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whale.commands.lineage.artefact import answer, load_graph
from whale.commands.output import AsJson, tell

if TYPE_CHECKING:
    from whale.lineage.trust import Action

app = typer.Typer(no_args_is_help=True, help="Say who may sign here, by signed statements.")

Because = Annotated[str, typer.Option(help="Why; it stands in the ledger for ever")]


@app.command("show", epilog="Example: whale lineage key show")
def show(as_json: AsJson = False) -> None:
    """Show the root of trust and who may sign. And which of these keys is here; a private key is never shown."""
    from whale.lineage import keys
    from whale.lineage.trust import read_trust

    asked, trust, named = load_graph(), read_trust(), keys.named_key()
    here = {
        each: str(keys.key_path(each)) for each in (trust.signers if trust else ()) if keys.key_path(each).is_file()
    }
    found: dict[str, Any] = {"root": trust.root if trust else None, "signers": list(trust.signers) if trust else []}
    answer(found | {"here": here, "named": str(named) if named else None}, asked, as_json, _say)


@app.command("new", epilog="Example: whale lineage key new --to /media/stick/whale.pem")
def new(
    to: Annotated[Path | None, typer.Option(help="A file; default: among your own keys in ~/.config/whale")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key of yours. Nobody trusts it until a holder of this project's keys runs `whale lineage key add`."""
    from whale.common.files import write_atomically
    from whale.lineage import keys, signing

    private = keys.make_key(to)
    keyid, pem = signing.public_half(private)
    public = signing.public_file(keyid, private.parent)
    write_atomically(public, pem)
    tell({"private": str(private), "public": str(public), "fingerprint": keyid}, as_json, _say_new)


@app.command("add", epilog="Example: whale lineage key add KEYID.pub --because 'the machine in the lab'")
def add(
    public: Annotated[Path, typer.Argument(help="A public key, as `whale lineage key new` writes it")],
    because: Because,
    as_json: AsJson = False,
) -> None:
    """Let one more key sign for this project. Signed by a key that may."""
    _change("add", public, because, as_json)


@app.command("revoke", epilog="Example: whale lineage key revoke KEYID --because 'stolen on Monday'")
def revoke(
    keyid: Annotated[str, typer.Argument(help="A fingerprint, as `whale lineage key show` lists it")],
    because: Because,
    as_json: AsJson = False,
) -> None:
    """Trust a key no more. What it signed until now stays; any line that is not above this one is a finding."""
    from whale.lineage.signing import public_file

    _change("revoke", public_file(keyid), because, as_json)


@app.command("rotate", epilog="Example: whale lineage key rotate --because 'once a year'")
def rotate(because: Because, as_json: AsJson = False) -> None:
    """Put a new key in the place of the one that signs here. The root that is pinned stays the beginning of trust."""
    from whale.common.files import write_atomically
    from whale.lineage import keys, signing
    from whale.lineage.trust import change_trust, require_signer

    asked = load_graph()
    asked.require_held()
    old, private = signing.public_half(require_signer())[0], keys.make_key()
    keyid, pem = signing.public_half(private)
    public = private.with_suffix(".pub")
    write_atomically(public, pem)
    change_trust("add", public, because)
    change_trust("revoke", signing.public_file(old), because)
    said = f"{keyid} signs from now on ({private}); {old} no more"
    answer({"private": str(private), "signs": keyid, "revoked": old}, load_graph(), as_json, lambda _: print(said))


@app.command("replace-root", epilog="Example: whale lineage key replace-root --because 'the disk with the key died'")
def replace_root(because: Because, as_json: AsJson = False) -> None:
    """Begin trust anew where every key is lost. The new root vouches for the ledger as it is now.

    Verify first, with the old fingerprint (--expect-root). Every verification tells of the replacement and ends with 3,
    until the new fingerprint is given with --expect-root: tell it to whoever verifies.
    """
    from whale.common.errors import RefusedError
    from whale.lineage import ledger, signing
    from whale.lineage.trust import replace_root as replace

    entries, public = ledger.read(), signing.PublicKeys()
    signed_by = set()
    for entry in entries:
        with suppress(RefusedError):
            signed_by.add(public.signer(entry.envelope))
    trust = replace(because, tuple(signed_by))
    said = f"the root is {trust.root} from now on; commit lineage/, and tell this fingerprint to whoever verifies"
    tell({"root": trust.root, "vouched_lines": len(entries)}, as_json, lambda _: print(said))


def _change(action: "Action", public: Path, because: str, as_json: bool) -> None:
    from whale.lineage.trust import change_trust, read_trust

    if action == "add":  # a revocation must be possible when nothing else holds
        load_graph().require_held()
    entry = change_trust(action, public, because)
    trust = read_trust()
    signers = sorted(trust.signers) if trust else []
    said = f"{action}: {public.stem}, ledger {entry[:16]}; commit lineage/. Who may sign: {', '.join(signers)}"
    answer({"entry": entry, "signers": signers}, load_graph(), as_json, lambda _: print(said))


def _say(found: dict[str, Any]) -> None:
    print(f"root of trust: {found['root']}")
    for keyid in found["signers"]:
        print(f"may sign: {keyid}, {found['here'].get(keyid, 'its private key is not among yours')}")
    if found["named"]:
        print(f"WHALE_SIGNING_KEY names {found['named']}")


def _say_new(found: dict[str, Any]) -> None:
    print(f"private key: {found['private']}; keep a copy of it, and show it to nobody")
    print(f"public half: {found['public']}; a holder of the project's keys runs `whale lineage key add` with it")
