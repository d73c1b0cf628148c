"""OpenSSF model signature (`model.sig`): sha256 of every file of a folder, signed with the project's own P-256 key.

https://github.com/sigstore/model-transparency, signature format 1.0: an in-toto statement in DSSE in a Sigstore bundle.
Written by hand, so that signing needs no package beyond ours; `model_signing verify key` accepts it.
"""

import hashlib
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, MismatchError, MissingInputError, RefusedError
from whale.common.files import sha256_of_file
from whale.common.json_files import pretty_json, read_json
from whale.lineage import signing
from whale.lineage.statement import in_toto
from whale.lineage.trust import TRUST, read_trust

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# What the verifier leaves out of its own list of the folder's files; part of what is signed.
IGNORED = [".git", ".gitattributes", ".github", ".gitignore"]


def model_signature(folder: Path, key: Path) -> bytes:
    """The bundle for `folder` as JSON. BadDataError for a link in it: only plain files can be signed."""
    envelope, pem = signing.sign(_statement(folder), key), signing.public_half(key)[1]
    (signature,) = envelope["signatures"]
    material = {"publicKey": {"hint": hashlib.sha256(pem).hexdigest()}, "tlogEntries": []}
    dsse = envelope | {"signatures": [{"keyid": "", "sig": signature["sig"]}]}
    return pretty_json({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": dsse})


def verify_model_signature(folder: Path, file: Path) -> None:
    """MismatchError unless `file` is a bundle signed by a key of this project for exactly the files of `folder`."""
    try:
        envelope = read_json(file)["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        trust = read_trust()
        keys = trust.signers if trust else ()
        claims = [envelope | {"signatures": [signature | {"keyid": key}]} for key in keys]
        signed = [found for each in claims if (found := _verified(each)) is not None]
    except (OSError, BadDataError, MissingInputError, ValueError, KeyError, TypeError) as error:
        raise MismatchError("not a model signature", file=file, found=str(error)[:120]) from None
    if not signed:
        raise MismatchError("not signed by a key of this project", file=file, expected=f"a signer of {TRUST}")
    if signed[0] != (expected := _statement(folder)):
        then, now = (statement["predicate"]["resources"] for statement in (signed[0], expected))
        changed = sorted({row["name"] for row in then + now if row not in then or row not in now})
        raise MismatchError("signed for other files", file=file, found=", ".join(changed[:5]), expected=str(folder))


def _verified(envelope: signing.Envelope) -> dict[str, Any] | None:
    try:
        return signing.verify(envelope)
    except RefusedError:
        return None


def _statement(folder: Path) -> dict[str, Any]:
    resources, together = [], hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_symlink():
            raise BadDataError("only plain files can be signed", file=path, found="a symbolic link")
        if path.is_file() and path.relative_to(folder).parts[0] not in IGNORED:
            digest = sha256_of_file(path)
            together.update(bytes.fromhex(digest))
            name = path.relative_to(folder).as_posix()
            resources.append({"name": name, "algorithm": "sha256", "digest": digest})
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": IGNORED}
    whole = {"name": folder.name, "digest": {"sha256": together.hexdigest()}}
    return in_toto(PREDICATE_TYPE, [whole], {"serialization": serialization, "resources": resources})
