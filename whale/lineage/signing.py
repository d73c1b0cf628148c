"""Statements signed with a private key: DSSE envelopes, ECDSA P-256 over the pre-authentication encoding.

Whoever verifies needs `lineage/keys/<keyid>.pub` alone, which git keeps; keyid = sha256 of the key's DER
SubjectPublicKeyInfo. Where private keys lie: keys.py; whose signature counts: trust.py.
The only module that uses `cryptography`, inside functions: a stage pays for it once, at its end.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, ConfigError, RefusedError
from whale.common.json_files import canonical_json, parse_json
from whale.common.limits import KEY_BYTES

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PUBLIC_KEYS = Path("lineage/keys")
KEYID = re.compile(r"[0-9a-f]{64}")

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


def sign(statement: Mapping[str, Any], key_file: Path) -> Envelope:
    """The envelope of `statement` in canonical JSON, signed with the private key in `key_file`.

    TypeError for what is no mapping: `dict` would make one of a list of pairs, and what is signed was never said.
    """
    if not isinstance(statement, Mapping):
        raise TypeError(f"not a statement: {type(statement).__name__}")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _load_private(key_file)
    payload = canonical_json(dict(statement)).encode()
    signature = key.sign(pre_authentication_encoding(payload), ec.ECDSA(hashes.SHA256()))
    signed = {"keyid": _named(key.public_key())[0], "sig": base64.b64encode(signature).decode()}
    return {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [signed]}


def new_private_key() -> tuple[str, bytes]:
    """(keyid, private key as PKCS8 in PEM) of a fresh P-256 key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    form = serialization.PrivateFormat.PKCS8
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return _named(key.public_key())[0], pem


def public_half(key_file: Path) -> tuple[str, bytes]:
    """(keyid, public key as PEM) of a private key; ConfigError for what is none."""
    return _named(_load_private(key_file).public_key())


def payload_of(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The statement inside, unverified; RefusedError when it is none."""
    try:
        if not isinstance(envelope, Mapping):
            raise ValueError(f"a {type(envelope).__name__}, no envelope")
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"payload type {envelope['payloadType']}")
        statement = parse_json(base64.b64decode(envelope["payload"], validate=True), "payload")
        if not isinstance(statement, dict):
            raise ValueError("the payload is no JSON object")
    except (KeyError, TypeError, ValueError, BadDataError) as error:
        raise RefusedError("not a signed statement", found=str(error)[:120]) from None
    return statement


def public_file(keyid: str, folder: Path = PUBLIC_KEYS) -> Path:
    """Where the public key of this keyid lies."""
    return folder / f"{keyid}.pub"


class PublicKeys:
    """The public keys of a folder, each read once."""

    def __init__(self, folder: Path = PUBLIC_KEYS):
        self.folder = folder
        self._known: dict[str, Any] = {}

    def signer(self, envelope: Mapping[str, Any]) -> str:
        """keyid of the one key of the folder that signed `envelope`; else RefusedError."""
        payload_of(envelope)  # also that it is an envelope
        rows = envelope.get("signatures")
        each = rows[0] if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], dict) else {}
        keyid = str(each.get("keyid"))
        signed = pre_authentication_encoding(base64.b64decode(envelope["payload"]))
        if not _is_signed_by(signed, str(each.get("sig")), self._key(keyid)):
            raise RefusedError(
                "no valid signature", found=f"signed by {keyid[:16] if each else 'nobody, or several'}",
                expected=f"a key of {self.folder}",
                remedy="take the statement and the public key from a source that you trust",
            )  # fmt: skip
        return keyid

    def _key(self, keyid: str) -> Any:
        if keyid not in self._known:
            file = public_file(keyid, self.folder) if KEYID.fullmatch(keyid) else None
            self._known[keyid] = load_public(file) if file is not None and file.is_file() else None
        return self._known[keyid]


def verify(envelope: Mapping[str, Any], keys: Path = PUBLIC_KEYS) -> dict[str, Any]:
    """The statement, if it is signed by a key of the folder `keys`, trusted or not; else RefusedError."""
    PublicKeys(keys).signer(envelope)
    return payload_of(envelope)


def load_public(file: Path) -> Any:
    """The P-256 key that the name of `file` says, if the file is just that in the form we write; else None."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        pem = file.read_bytes()[:KEY_BYTES]
        public = serialization.load_pem_public_key(pem)
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        return None
    return public if _named(public) == (file.stem, pem) else None


def _load_private(file: Path) -> Any:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(file.read_bytes()[:KEY_BYTES], password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError("not a private key in PEM form", file=file, found=str(error)[:80]) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("not an EC P-256 key", file=file, remedy="name another key, or none")
    return key


def _named(public: Any) -> tuple[str, bytes]:
    """(keyid, PEM) of a public key."""
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = public.public_bytes(serialization.Encoding.DER, form)
    return hashlib.sha256(der).hexdigest(), public.public_bytes(serialization.Encoding.PEM, form)


def _is_signed_by(signed: bytes, signature: str, public: Any) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if public is None:
        return False
    try:
        public.verify(base64.b64decode(signature, validate=True), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, TypeError, binascii.Error):
        return False
    return True
