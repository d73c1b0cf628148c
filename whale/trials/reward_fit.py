"""Train a reward head: recorded frames and their reconstructions -> the recorded reward.

Reconstructions are in it because imagined frames look like those. How well it reads rewards is measured on episodes it
has not seen, on both. Shapes: M frames, N tokens, E latent width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.data.storage.shards import ShardSet
from whale.evaluation.measuring.imagination import reconstruct_long
from whale.evaluation.uncertainty.correlation import explained
from whale.models.world.learned import LearnedWorld
from whale.worlds.reward_head import RewardHead, RewardHeadConfig


class RewardFitConfig(Config):
    """`episodes`: of split train, at most; `val_split`: chooses the step to keep, `test_split`: measures R^2."""

    episodes: int = Field(gt=0)
    hidden: int = Field(gt=0)
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    val_split: str
    test_split: str


@dataclass(frozen=True)
class Labelled:
    """Latents [M, N, E] of frames and of their episode's first frame, the reward [M] on arriving, the instruction."""

    first: Tensor
    now: Tensor
    reward: Tensor
    instructions: list[str]


def labelled(world: LearnedWorld, shards: ShardSet, split: str, episodes: int, reconstructed: bool) -> Labelled:
    """Frames 1.. of at most `episodes` episodes; the reward of frame t is that of the action that led to it."""
    firsts, nows, rewards, texts = [], [], [], []
    rows = shards.episodes(split)
    for number in np.unique(np.linspace(0, len(rows) - 1, min(episodes, len(rows))).round().astype(int)):
        row = rows[int(number)]
        frames = shards.read_frames(row, 0, row.num_steps)
        if reconstructed:
            frames = reconstruct_long(world.tokenizer, frames[None], world.window, 64)[0]
        features = world.features(world.tokenizer.placed(frames))
        nows.append(features[1:])
        firsts.append(features[:1].expand(len(frames) - 1, -1, -1))
        rewards.append(torch.from_numpy(shards.read_arrays(row, ("reward",))["reward"][:-1].astype(np.float32)))
        texts += [row.language] * (len(frames) - 1)
    if not rewards:
        raise BadDataError("a split without episodes", file=shards.directory, place=f"split {split}")
    return Labelled(torch.cat(firsts), torch.cat(nows), torch.cat(rewards), texts)


def fit_reward(world: LearnedWorld, shards: ShardSet, config: RewardFitConfig, seed: int, tokenizer: str) -> RewardHead:
    """The head with the least error on `val_split` among those seen every tenth of the training.

    tokenizer: sha256 of its weights, which the head is bound to.
    BadDataError for a dataset whose rewards never change: there is nothing to learn.
    """
    parts = [labelled(world, shards, "train", config.episodes, reconstructed) for reconstructed in (False, True)]
    train = Labelled(
        torch.cat([part.first for part in parts]), torch.cat([part.now for part in parts]),
        torch.cat([part.reward for part in parts]), [text for part in parts for text in part.instructions],
    )  # fmt: skip
    if float(train.reward.std()) < 1e-6:
        raise BadDataError("no reward to learn from", file=shards.directory, place="split train",
                           found="rewards that never change", expected="recorded rewards")  # fmt: skip
    held = [labelled(world, shards, config.val_split, config.episodes, again) for again in (False, True)]
    instructions = sorted(set(train.instructions))
    bounds = [float(train.reward.min()), float(train.reward.max())]
    begun = RewardHeadConfig(
        num_tokens=train.now.shape[1], latent_dim=train.now.shape[2], hidden=config.hidden,
        instructions=instructions, bounds=bounds, tokenizer=tokenizer,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = RewardHead(begun).to(world.device)
        _train(head, train, held, config)
    tests = {name: labelled(world, shards, config.test_split, config.episodes, again)
             for name, again in (("recorded", False), ("reconstructed", True))}  # fmt: skip
    r2 = {
        name: _rounded(explained(part.reward.double().numpy(), _predicted(head, part))) for name, part in tests.items()
    }
    measured = RewardHead(begun.model_copy(update={"r2": r2}))
    measured.load_state_dict(head.state_dict())
    return measured.to(world.device).eval()


def _train(head: RewardHead, train: Labelled, held: Sequence[Labelled], config: RewardFitConfig) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    tasks, every = head.tasks(train.instructions), max(1, config.steps // 10)
    best, kept = np.inf, {name: value.clone() for name, value in head.state_dict().items()}
    for number in range(config.steps):
        rows = torch.randint(len(tasks), (config.batch_size,))
        predicted = head(train.first[rows], train.now[rows], tasks[rows])
        loss = nn.functional.mse_loss(predicted, train.reward[rows].to(predicted))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (number + 1) % every == 0:
            error = float(np.mean([np.square(_predicted(head, part) - part.reward.numpy()).mean() for part in held]))
            if error < best:
                best, kept = error, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)


@torch.inference_mode()
def _predicted(head: RewardHead, part: Labelled) -> np.ndarray:
    return head.predict(part.first, part.now, head.tasks(part.instructions)).cpu().numpy()


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None
