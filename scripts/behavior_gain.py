"""The table of docs/explanation/behavior-experiment.md: what z gains where it remembers more than the window.

`python scripts/behavior_gain.py artifacts/hidden-gain` after `dvc repro train_dynamics@full train_dynamics@without_z`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from whale.evaluation.by_hand.behavior_gain import Compared, foreign_z_gains, likelihood_gains, rollout_gains
from whale.evaluation.measuring.rollouts.heldout import open_dataset
from whale.evaluation.measuring.rollouts.stack import load_stack
from whale.evaluation.numbers.bootstrap import Interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", type=Path, help="folder of a profile's artifacts")
    parser.add_argument("--dataset", default="fleet_gain")
    parser.add_argument("--split", default="test")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--with-z", default="full")
    parser.add_argument("--without-z", default="without_z")
    parser.add_argument("--seen", type=int, nargs="+", default=[1, 2, 4, 8], help="frames in the window")
    parser.add_argument("--horizon", type=int, default=64, help="of the long rollouts; 0: none")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = open_dataset(options.artifacts / "data/pretrain", options.dataset)
    compared = Compared(load_stack(options.artifacts / "models"), dataset, options.with_z, options.without_z)
    asked = (compared, options.split, options.episodes)
    names = [f"{name} {compared.stack.digests[name]}" for name in (options.with_z, options.without_z)]
    print(f"{options.dataset}/{options.split}, at most {options.episodes} episodes, memory {compared.memory}, window "
          f"{dataset.window}, bootstrap seed {compared.seed}; {', '.join(names)}")  # fmt: skip
    nll = likelihood_gains(*asked)
    for title, rows in (("nll, nats a frame", nll), ("the same with z of another episode", foreign_z_gains(*asked))):
        table(title, options.seen, {name: [row[c - 1] for c in options.seen] for name, row in rows.items()})
    after = {c: rollout_gains(*asked, c, 8, [(1, 8)]) for c in options.seen}
    table("PSNR of frames 1 to 8, dB", options.seen, {name: [after[c][name][0] for c in after] for name in nll})
    if options.horizon:
        bands = [(first, last) for first, last in ((1, 8), (9, 32), (33, 64)) if last <= options.horizon]
        names = [f"{first} to {last}" for first, last in bands]
        table("PSNR of a long rollout, dB, by imagined frame", names, rollout_gains(*asked, 4, options.horizon, bands))


def table(title: str, columns: Sequence[object], rows: dict[str, list[Interval]]) -> None:
    """As Markdown."""
    print(f"\n| {title} | " + " | ".join(map(str, columns)) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, intervals in rows.items():
        cells = (f"{each.value:+.3f} [{each.low:+.3f}, {each.high:+.3f}]" for each in intervals)
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
