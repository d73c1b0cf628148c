"""Holds files against a format with somebody else's validator. Runs as a process of its own, in which the folder of
validators.txt comes first on the path, so that the tests' process and the stages never see those packages.

python stock_validators.py FORMAT FILE...  prints one JSON list: null for a file that is accepted, else why not.
"""

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path


def intoto(file: Path) -> None:
    """in-toto-attestation: each line a DSSE envelope with a Statement v1 and a SLSA provenance v1, no unknown field."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    for line in file.read_text().splitlines():
        message = json_format.Parse(base64.b64decode(json.loads(line)["payload"]), statement_pb2.Statement())
        Statement.copy_from_pb(message).validate()
        json_format.ParseDict(json_format.MessageToDict(message)["predicate"], provenance_pb2.Provenance())


def cyclonedx(file: Path) -> None:
    """cyclonedx-python-lib: the strict JSON schema of 1.6."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read_text())) is not None:
        raise ValueError(str(error))


def prov(file: Path) -> None:
    """prov: read, written and read again without loss."""
    from prov.model import ProvDocument

    document = ProvDocument.deserialize(content=file.read_text(), format="json")
    if ProvDocument.deserialize(content=document.serialize(format="json"), format="json") != document:
        raise ValueError("not the same after a round trip")


def openlineage(file: Path) -> None:
    """The rules of the specification, then openlineage-python: its events give the same JSON again."""
    from openlineage.client import event_v2, facet_v2
    from openlineage.client.serde import Serde
    from openlineage_rules import RULES

    def datasets(kind: Callable, rows: list[dict]) -> list:
        facet = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet
        versions = [row["facets"]["version"] for row in rows]
        facets = [{"version": facet(each["datasetVersion"], producer=each["_producer"])} for each in versions]
        return [kind(row["namespace"], row["name"], facets=facet) for row, facet in zip(rows, facets, strict=True)]

    for row in json.loads(file.read_text()):
        RULES.validate(row)
        event = event_v2.RunEvent(
            eventType=event_v2.RunState(row["eventType"]),
            eventTime=row["eventTime"],
            run=event_v2.Run(**row["run"]),
            job=event_v2.Job(**row["job"]),
            inputs=datasets(event_v2.InputDataset, row["inputs"]),
            outputs=datasets(event_v2.OutputDataset, row["outputs"]),
            producer=row["producer"],
        )
        for kind in ("input", "output"):
            for each in row[f"{kind}s"]:
                each[f"{kind}Facets"] = {}  # always written by the package
        if (again := json.loads(Serde.to_json(event))) != row:
            raise ValueError(f"not the same again: {again}")


def croissant(file: Path) -> None:
    """mlcroissant: the metadata, and every episode row read through it from files whose sha256 fits."""
    from mlcroissant import Dataset

    rows = list(Dataset(str(file)).records("episodes"))
    if len(rows) != 9 or {row["episodes/kept"] for row in rows} != {True, False}:
        raise ValueError(f"{len(rows)} episodes")


def model_signing(file: Path) -> None:
    """model-signing: `artefact` and `public.pem` beside the signature `file`."""
    from model_signing import verifying

    verifier = verifying.Config().use_elliptic_key_verifier(public_key=file.with_name("public.pem"))
    verifier.verify(file.with_name("artefact"), file)


def card(file: Path) -> None:
    """huggingface_hub: the front matter of a model card, every entry of its model-index an EvalResult; names that the
    hub can link to. (Its own `validate` asks the hub.)"""
    from huggingface_hub import ModelCard
    from huggingface_hub.utils import validate_repo_id

    found = ModelCard(file.read_text()).data
    if not found.eval_results or None in (found.library_name, found.pipeline_tag, found.license):
        raise ValueError("no evaluation, library, task or licence")
    for name in [*(found.datasets or []), *(found.base_model or [])]:
        validate_repo_id(name)


def main() -> None:
    check = {each.__name__: each for each in (intoto, cyclonedx, prov, openlineage, croissant, model_signing, card)}
    verdicts: list[str | None] = []
    for name in sys.argv[2:]:
        try:
            check[sys.argv[1]](Path(name))
            verdicts.append(None)
        except ImportError:
            raise
        except Exception as error:
            verdicts.append(f"{type(error).__name__}: {error}"[:2000])
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
