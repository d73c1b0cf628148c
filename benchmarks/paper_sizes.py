"""Memory of a training step of every network of the paper, counted on tensors without numbers (`meta`).

    python benchmarks/paper_sizes.py [--micro-batch 8] [--json FILE]

Counted: bytes that autograd keeps for the backward pass (each storage once, parameters and inputs left out), and 16
bytes a parameter for weight, gradient and two moments. float32, nothing recomputed, on the code path of GPUs; not
counted: workspaces and what the allocator loses. No GPU and no memory is needed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from whale.common.config import load_yaml
from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.training.tasks.dynamics import TrainDynamicsConfig, new_dynamics

NAMES = ("train_tokenizer", "train_behavior", "train_dynamics")
STATE_BYTES, GIGABYTE = 16, 1e9
WINDOW, ACTION = 16, 7


@contextmanager
def without_initial_numbers() -> Iterator[None]:
    """Initialisers look at their numbers, which `meta` has none of; its autocast does not exist either."""
    autocast = torch.autocast

    def known(kind: str, *rest: object, **more: object):
        return nullcontext() if kind == "meta" else autocast(kind, *rest, **more)  # type: ignore[arg-type]

    same = mock.Mock(side_effect=lambda tensor, *_, **__: tensor)
    with mock.patch.object(nn.init, "trunc_normal_", same), mock.patch.object(torch, "autocast", known):
        yield


def bytes_kept(body: Callable[[], object]) -> int:
    """Of the storages that autograd keeps in `body`, each once, and no parameter."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = body()  # while it lives, no storage is counted under the name of another
    del held
    return sum(kept.values())


def networks(profile: str, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Each network that a section of the profile trains, on `meta`."""
    values = load_yaml(ROOT / "profiles" / f"{profile}.yaml")
    with without_initial_numbers(), torch.device("meta"):
        if name == "train_tokenizer":
            yield name, VideoTokenizer(TokenizerConfig(**values[name]["model"]))
        elif name == "train_behavior":
            yield name, BehaviorModel(BehaviorConfig(**values[name]["model"]))
        else:
            behavior, codes = values["train_behavior"]["model"], values["train_tokenizer"]["model"]["num_codes"]
            z_shape = (behavior["num_categories"], behavior["num_classes"])
            sizes = set()
            for entry, section in values[name].items():
                config = TrainDynamicsConfig.parse(section, file=profile, place=f"{name}.{entry}")
                if config.size not in sizes and not sizes.add(config.size):
                    yield f"{name}.{entry}", new_dynamics(config, num_codes=codes, z_shape=z_shape, seed=0)


def batch(model: nn.Module, rows: int) -> dict[str, Tensor]:
    """A batch as the loader shapes it."""
    with torch.device("meta"):
        found = {
            "action": torch.empty(rows, WINDOW, ACTION),
            "action_valid": torch.empty(rows, WINDOW, dtype=torch.bool),
            "action_mask": torch.empty(rows, ACTION, dtype=torch.bool),
            "num_frames": torch.empty(rows, dtype=torch.int64),
            "uniform": torch.empty(rows, WINDOW, 16),
            "z_log_probs": torch.empty(rows, WINDOW, 16, 16),
        }
        side = getattr(model.config, "resolution", None)
        if side is None:
            found["tokens"] = torch.empty(rows, WINDOW + 1, 256, dtype=torch.int64)
        else:
            found["frames"] = torch.empty(rows, WINDOW + 1, side, side, 3, dtype=torch.uint8)
    return found


def measured(profile: str, name: str, rows: int) -> list[dict]:
    """A row for every network of the section, from one forward and backward pass without numbers."""
    found = []
    for title, model in networks(profile, name):
        items, losses = batch(model, rows), []
        with without_initial_numbers():
            kept = bytes_kept(lambda model=model, items=items, losses=losses: losses.append(model(items)[0]))
            losses[0].backward()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        count = sum(parameter.numel() for parameter in trained)
        found.append(
            {
                "what": f"{profile}: {title}, micro-batch {rows}",
                "parameters": count,
                "gradients": sum(each.grad.numel() for each in trained if each.grad is not None),
                "loss_shape": tuple(losses[0].shape),
                "state_gb": STATE_BYTES * count / GIGABYTE,
                "kept_gb": kept / GIGABYTE,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [row for profile in ("whale-st-64", "whale-st-256", "whale-x") for name in NAMES
            for row in measured(profile, name, options.micro_batch)]  # fmt: skip
    for row in rows:
        total = row["state_gb"] + row["kept_gb"]
        print(f"{row['what']:<58} {row['parameters'] / 1e6:6.1f} M  {row['state_gb']:5.2f} + {row['kept_gb']:6.1f} GB"
              f" = {total:6.1f}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
