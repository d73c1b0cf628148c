"""One name per export format. Each is a function of the ledger (and, for Croissant, of the folder): no clock, no host,
so an export can be held against the ledger again byte by byte."""

from whale.audit.exports.bundle import intoto
from whale.audit.exports.croissant import croissant
from whale.audit.exports.cyclonedx import cyclonedx
from whale.audit.exports.openlineage import openlineage
from whale.audit.exports.prov import prov
from whale.audit.runs import RunGraph, Target
from whale.errors import ConfigError
from whale.lineage.statement import pretty_json

FORMATS = ("intoto", "cyclonedx", "openlineage", "prov", "croissant")


def export(target: Target, graph: RunGraph, form: str) -> bytes:
    """The document in `form`; ConfigError for an unknown one."""
    if form == "intoto":
        return intoto(target, graph).encode()
    if form == "cyclonedx":
        return pretty_json(cyclonedx(target, graph))
    if form == "openlineage":
        return pretty_json(openlineage(target, graph))
    if form == "prov":
        return pretty_json(prov(target, graph))
    if form == "croissant":
        return pretty_json(croissant(target.folder))
    raise ConfigError("no such export format", found=form, expected=", ".join(FORMATS))
