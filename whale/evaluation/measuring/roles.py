"""The roles of a profile: which models are measured on which data. A profile may do without fine-tuning."""

from collections.abc import Iterator
from pathlib import Path

from whale.common.errors import ConfigError


def roles(models: Path, data: Path) -> Iterator[tuple[str, Path, Path]]:
    """(role, its models, its data) below the two folders: pretrained ones, and fine-tuned ones where anything was.

    Demonstrations without a model that learned from them are not passed over: whoever opens it says what is missing.
    """
    yield "pretrain", models, data / "pretrain"
    if (data / "finetune").is_dir() or (models / "finetuned").is_dir():
        yield "finetune", models / "finetuned", data / "finetune"


def chosen_splits(section: str, role: str, pretrain: list[str], finetune: list[str]) -> list[str]:
    """The splits that `section` names for a role that has data; ConfigError where it names none."""
    chosen = pretrain if role == "pretrain" else finetune
    if not chosen:
        place, remedy = f"{section}.{role}_splits", "name one, or take the fine-tuned dataset out of `datasets`"
        raise ConfigError("data of a role, but no split to measure", file="params.yaml", place=place, found="[]",
                          expected="at least one split of its dataset's spec", remedy=remedy)  # fmt: skip
    return chosen
