"""OpenSSF model signature (`model.sig`): sha256 of every file of a folder, signed with the project's own P-256 key.

https://github.com/sigstore/model-transparency, signature format 1.0: an in-toto statement in DSSE in a Sigstore bundle.
Written by hand, so that signing needs no package beyond ours; `model_signing verify key` accepts it.
"""

import hashlib
from pathlib import Path
from typing import Any

from whale.errors import BadDataError
from whale.files import sha256_of_file
from whale.lineage import signing
from whale.lineage.statement import pretty_json

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# What the verifier leaves out of its own list of the folder's files; part of what is signed.
IGNORED = [".git", ".gitattributes", ".github", ".gitignore"]


def model_signature(folder: Path, key: Path) -> bytes:
    """The bundle for `folder` as JSON. BadDataError for a link in it: only plain files can be signed."""
    envelope, _, pem = signing.sign(_statement(folder), key)
    (signature,) = envelope["signatures"]
    material = {"publicKey": {"hint": hashlib.sha256(pem).hexdigest()}, "tlogEntries": []}
    dsse = envelope | {"signatures": [{"keyid": "", "sig": signature["sig"]}]}
    return pretty_json({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": dsse})


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
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": folder.name, "digest": {"sha256": together.hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": resources},
    }
