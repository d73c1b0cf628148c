"""Parameters of the demo, with pretraining alone."""

from whale.planning.profile import FINETUNING

PLACES = (*FINETUNING, "evaluate_video.finetune_splits", "evaluate_uncertainty.finetune_splits")


def put(params, place, value):
    *sections, last = place.split(".")
    for section in sections:
        params = params[section]
    params[last] = value


def without_finetuning(params: dict) -> dict:
    """The same parameters, with pretraining alone."""
    params["datasets"] = {name: row for name, row in params["datasets"].items() if row["role"] == "pretrain"}
    for place in PLACES:
        put(params, place, [] if place.endswith("splits") else {})
    return params
