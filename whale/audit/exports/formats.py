"""One name per export format. Each is a function of the ledger and of folders that it signed: no clock, no host, so an
export can be held against the ledger again byte by byte. Only a signature differs each time it is made: it is verified.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from whale.audit.exports.as_signed import require_folder_as_signed
from whale.audit.exports.bundle import intoto
from whale.audit.exports.card import model_card
from whale.audit.exports.croissant import croissant
from whale.audit.exports.cyclonedx import cyclonedx
from whale.audit.exports.model_signature import model_signature, verify_model_signature
from whale.audit.exports.openlineage import openlineage
from whale.audit.exports.prov import prov
from whale.audit.questions.licences import LicencePolicy
from whale.audit.questions.obligations import as_markdown, obligations
from whale.audit.run_graph import RunGraph, Target
from whale.common.errors import ConfigError, MismatchError
from whale.common.json_files import pretty_json
from whale.lineage.trust import require_signer

OF_THE_LEDGER: dict[str, Callable[[Target, RunGraph], Any]] = {
    "intoto": intoto,
    "cyclonedx": cyclonedx,
    "openlineage": openlineage,
    "prov": prov,
    "card": model_card,
    "obligations": lambda target, graph: as_markdown(obligations(target, graph, LicencePolicy())),
}
FORMATS = ("intoto", "cyclonedx", "openlineage", "prov", "croissant", "model-signing", "card", "obligations")
OF_FOLDERS = ("model-signing", "card")


def export(target: Target, graph: RunGraph, form: str) -> bytes:
    """The document in `form`, ASCII. ConfigError for an unknown form, MismatchError for bytes that nobody signed."""
    if form not in FORMATS:
        raise ConfigError("no such export format", found=form, expected=", ".join(FORMATS))
    if form in OF_FOLDERS:
        require_folder_as_signed(target)
    if form == "model-signing":
        return model_signature(target.folder, require_signer())
    document = croissant(target.folder) if form == "croissant" else OF_THE_LEDGER[form](target, graph)
    return document.encode() if isinstance(document, str) else pretty_json(document)


def check(target: Target, graph: RunGraph, form: str, file: Path) -> None:
    """MismatchError unless `file` is what an export in `form` would say of `target` now."""
    if form == "model-signing":
        require_folder_as_signed(target)
        verify_model_signature(target.folder, file)
    elif not file.is_file() or file.read_bytes() != export(target, graph, form):
        raise MismatchError("not what the ledger says", file=file, remedy="export it again")
