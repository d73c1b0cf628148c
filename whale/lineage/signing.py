"""Statements signed with a local key: DSSE envelopes, ECDSA P-256 over the pre-authentication encoding.

The private key never leaves `.whale/keys/` (git-ignored, 0600) or the file that WHALE_SIGNING_KEY names. Whoever
verifies needs `lineage/keys/<keyid>.pub` alone, which git keeps; keyid = sha256 of the key's DER SubjectPublicKeyInfo.
The only module that uses `cryptography`, inside functions: a stage pays for it once, at its end.
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.errors import ConfigError, RefusedError
from whale.common.files import write_atomically, write_secret_once
from whale.common.json_files import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PUBLIC_KEYS = Path("lineage/keys")
KEY_VARIABLE = "WHALE_SIGNING_KEY"
MAX_KEY_BYTES = 16_384

Envelope = dict[str, Any]


def pre_authentication_encoding(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """DSSE v1: what is signed, so that a payload is never taken for one of another type."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def load_library() -> None:
    """Import what `sign` needs, and let OpenSSL prepare the curve, as it does at a first signature: all but 1 ms."""
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: F401
    from cryptography.hazmat.primitives.asymmetric import ec

    ec.generate_private_key(ec.SECP256R1()).sign(b"", ec.ECDSA(hashes.SHA256()))


def sign(statement: Mapping[str, Any], key_file: Path) -> tuple[Envelope, str, bytes]:
    """(envelope, keyid, public key as PEM) of `statement` in canonical JSON, signed with the key in `key_file`."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(key_file.read_bytes()[:MAX_KEY_BYTES], password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError("not a private key in PEM form", file=key_file, found=str(error)[:80]) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("not an EC P-256 key", file=key_file, remedy=f"remove it, or set {KEY_VARIABLE}")
    payload = canonical_json(dict(statement)).encode()
    signature = key.sign(pre_authentication_encoding(payload), ec.ECDSA(hashes.SHA256()))
    public = key.public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    keyid = hashlib.sha256(der).hexdigest()
    signed = {"keyid": keyid, "sig": base64.b64encode(signature).decode()}
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [signed]}
    return envelope, keyid, pem


def payload_of(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The statement inside, unverified; RefusedError when it is none."""
    try:
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"payload type {envelope['payloadType']}")
        statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
        if not isinstance(statement, dict):
            raise ValueError("the payload is no JSON object")
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise RefusedError("not a signed statement", found=str(error)[:120]) from None
    return statement


def verify(envelope: Mapping[str, Any], keys: Path = PUBLIC_KEYS) -> dict[str, Any]:
    """The statement, if one of its signatures is by a key of the folder `keys`; else RefusedError."""
    statement = payload_of(envelope)
    signed = pre_authentication_encoding(base64.b64decode(envelope["payload"]))
    tried = []
    for each in envelope.get("signatures", []):
        keyid = str(each.get("keyid"))
        tried.append(keyid[:16])
        if _is_signed_by(signed, str(each.get("sig")), keyid, keys):
            return statement
    raise RefusedError(
        "no valid signature", found=f"signed by {', '.join(tried) or 'nobody'}", expected=f"a key of {keys}",
        remedy="take the statement and the public key from a source that you trust",
    )  # fmt: skip


def is_public_key(file: Path) -> bool:
    """Whether `file` holds exactly the P-256 key that its name says, in the form that this project writes."""
    return _load_public(file) is not None


def _load_public(file: Path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        pem = file.read_bytes()[:MAX_KEY_BYTES]
        public = serialization.load_pem_public_key(pem)
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        again = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (OSError, ValueError, TypeError):
        return None
    is_named = hashlib.sha256(der).hexdigest() == file.stem and again == pem
    return public if is_named and isinstance(public, ec.EllipticCurvePublicKey) else None


def _is_signed_by(signed: bytes, signature: str, keyid: str, keys: Path) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    file = keys / f"{keyid}.pub"
    public = _load_public(file) if keyid.isalnum() and file.is_file() else None
    if public is None:
        return False
    try:
        public.verify(base64.b64decode(signature, validate=True), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, TypeError, binascii.Error):
        return False
    return True


def key_file(state_dir: Path) -> Path:
    """The private key to sign with: that of WHALE_SIGNING_KEY, else the project's own, made on first use."""
    if named := os.environ.get(KEY_VARIABLE):
        if not Path(named).is_file():
            raise ConfigError("no such signing key", file=named, place=KEY_VARIABLE, remedy="correct or unset it")
        return Path(named)
    path = state_dir / "keys" / "signing.pem"
    if not path.exists():
        _make_key(path)
    return path


def publish_key(keyid: str, pem: bytes) -> None:
    """`<keyid>.pub` among the public keys, written once."""
    path = PUBLIC_KEYS / f"{keyid}.pub"
    if not path.exists():
        write_atomically(path, pem)


def _make_key(path: Path) -> None:
    """A new key under its final name from the first moment, readable by the owner only; the first process wins."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write_secret_once(path, pem)
