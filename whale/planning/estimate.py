"""What each stage would cost: FLOP, disk, memory of one worker. Estimates from arithmetic: nothing here was run.

Letters: T window, N tokens per frame. A segment of T steps has T + 1 frames; the tokenizer sees them all.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise, repeat
from typing import Any

import torch
from torch import nn

from whale.baselines.rssm.rssm import RSSM
from whale.common.config import Config
from whale.control.arenas import MetaworldArenaConfig
from whale.evaluation.behavior.measurement import DRAWINGS
from whale.evaluation.video.action_following import ALTERATIONS, DIMENSIONS
from whale.evaluation.video.controllable import FACTORS
from whale.evaluation.video.video import FULL
from whale.models.behavior.behavior import BehaviorModel
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.st_transformer import STTransformerConfig
from whale.planning import flops, scoring
from whale.planning.datasets import TAR_OVERHEAD, DatasetStatus, jpeg_bytes
from whale.planning.profile import Profile
from whale.sim.metaworld.collect import SPLITS
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.tasks.dynamics import new_dynamics
from whale.training.tasks.tokenizer.task import FinetuneTokenizerConfig, TrainTokenizerConfig

BYTES_PER_TOKEN = 2  # uint16
TRAINING_BYTES = 16  # of one fp32 weight: itself, its gradient, two moments of AdamW
# Values kept for the backward pass, per token, pair of layers and unit of width (32.5-33.3, counted on a built trunk).
KEPT_VALUES = 33
EPISODE_FRAMES = 32  # of an episode of the fleet, at most
PNG_TO_JPEG = 2.2  # sizes of a 64 x 64 frame of Meta-World
START_SECONDS = 3.0  # of any stage: 2 to 4 measured on idle cores, most of it importing PyTorch
LEARNED = 0.04  # seconds a step of a learner: batch 128, hidden layers of 256; measured on one core
PROBED = 0.03  # seconds a segment: probes and t-SNE, on one core, with one drawing of shuffled labels
SHUFFLED = 4.0e-3  # seconds a segment, for each further drawing: four questions of 960 segments
SCORED_FRAMES = 100  # of an episode, where lengths are not known
SIMULATED, DRAWN = 10.0e-3, 6.0e-8  # core seconds a frame, and a drawn pixel: 11.4 ms at 64 x 64, 13.6 at 256 x 256

ASSUMPTIONS = (
    "training = 3 forward passes; causal attention counted in full; loading and validation left out",
    f"every stage starts in {START_SECONDS:g} s (imports, proof, seal; measured); what ingest, report and metrics "
    "compute beside that is left out, so a run takes longer than the sum",
    "a stage is as fast as its matrices allow at the stated share of the peak; several devices share it without loss",
    "GPU figures take bf16, as `optimization.precision: bfloat16` computes; float32 is slower",
    "JPEG of quality 95: 22.1 kB x (resolution / 256)^1.5, measured on Meta-World frames of 64 and 256 pixels",
    "memory: weights, gradients, AdamW moments and activations of one worker's share of the batch, no micro-batches "
    "and no checkpointing of activations; in host RAM allow 2 GB more per worker, and 2 GB for Ray",
    "collect_metaworld: 11 to 14 ms of one core a frame, measured alone (21 beside other programs); on the CPU cores "
    "named, on two beside a GPU",
    "evaluation: rollouts, each frame once and half a window anew at every restart; evaluate_video also teacher "
    f"forcing; scores on one core; an episode has {SCORED_FRAMES} frames where no simulator says how many",
)


@dataclass(frozen=True)
class Cost:
    """`flops` in all, `disk` bytes of the stage's outputs, `memory` bytes of one worker; None: not estimated.

    `core_seconds`: of work that no GPU takes over; `serial_seconds`: of such work that only one core at a time does.
    """

    flops: float | None = None
    disk: float | None = None
    memory: float | None = None
    core_seconds: float | None = None
    serial_seconds: float = 0.0


def num_parameters(config: Config, build: Callable[..., nn.Module]) -> int:
    """Counted on the built network, without memory for its weights."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(config).parameters())


class Estimator:
    """Costs of every stage of a profile on `workers` equal devices."""

    def __init__(self, profile: Profile, datasets: Mapping[str, DatasetStatus], workers: int, bytes_per_value: int):
        self.profile, self.datasets = profile, datasets
        self.workers, self.bytes_per_value = workers, bytes_per_value
        self.window = profile.segments.window
        self.tokenizer, self.behavior = profile.train_tokenizer.model, profile.train_behavior.model
        self.history = self.behavior.memory or self.window  # steps that the prior looks back on at most
        self.count = lru_cache(maxsize=None)(self._count)

    def cost(self, stage: str, item: str | None) -> Cost:
        """Cost of a node of the graph; empty for a stage that this module does not know."""
        if stage in ("train_behavior", "finetune_behavior"):
            return self._behavior(self._entry(stage, item).optimization)
        if stage in ("train_tokenizer", "finetune_tokenizer"):
            return self._tokenizer(self._entry(stage, item))
        method = getattr(self, f"_{stage}", None)
        return method(item) if method else Cost()

    def _entry(self, stage: str, item: str | None) -> Any:
        section = getattr(self.profile, stage)
        return section if item is None else section[item]

    def _collect(self, item: str) -> Cost:
        raw = [name for name, entry in self.profile.datasets.items() if f"/raw/{item}/" in entry.raw]
        return Cost(disk=self._total(raw, jpeg_bytes(self.profile.ingest.resolution)))

    _collect_rehearsal = _collect

    def _collect_metaworld(self, item: str) -> Cost:
        source = self.profile.collect_metaworld[item]
        frames = source.frames * sum(map(source.total, SPLITS))
        drawn = (source.resolution * source.supersample) ** 2
        size = jpeg_bytes(source.resolution) * (1.0 if source.image == "jpeg" else PNG_TO_JPEG)
        return Cost(disk=frames * size, core_seconds=frames * (SIMULATED + DRAWN * drawn))

    def _ingest(self, item: str) -> Cost:
        per_frame = jpeg_bytes(self.profile.ingest.resolution) + TAR_OVERHEAD
        return Cost(disk=self._total([item], per_frame * len(self.profile.ingest.cameras)))

    def _tokenizer(self, stage: TrainTokenizerConfig | FinetuneTokenizerConfig) -> Cost:
        """An encoder that is frozen goes forward only."""
        config, frames = stage.optimization, self.window + 1
        tokens = config.batch_size * frames * self.tokenizer.num_tokens
        is_frozen = isinstance(stage, FinetuneTokenizerConfig) and "encoder" in stage.freeze
        encode = 1 if is_frozen else flops.TRAINING
        per_token = encode * flops.encoder(self.tokenizer, frames)
        per_token += flops.TRAINING * flops.decoder(self.tokenizer, frames)
        trunks = (self.tokenizer.decoder,) if is_frozen else (self.tokenizer.encoder, self.tokenizer.decoder)
        return self._training(config, per_token * tokens, tokens, trunks, self.count("tokenizer"))

    def _behavior(self, config: OptimizationConfig) -> Cost:
        tokens = config.batch_size * self.history * flops.behavior_tokens(self.behavior)
        step = flops.TRAINING * flops.behavior(self.behavior, self.history) * tokens
        trunks = (self.behavior.posterior, self.behavior.prior, self.behavior.policy)
        return self._training(config, step, tokens, trunks, self.count("behavior"))

    def _train_dynamics(self, item: str) -> Cost:
        return self._dynamics(item, self.profile.train_dynamics[item].optimization)

    def _finetune_dynamics(self, item: str) -> Cost:
        entry = self.profile.finetune_dynamics[item]
        return self._dynamics(entry.initial, entry.optimization)

    def _dynamics(self, size: str, config: OptimizationConfig) -> Cost:
        trunk = self.profile.train_dynamics[size].size
        tokens = config.batch_size * self.window * self.tokenizer.num_tokens
        step = flops.TRAINING * self._dynamics_flops(size) * tokens
        head = 2 * self.tokenizer.num_codes  # logits and their softmax
        return self._training(config, step, tokens, (trunk,), self.count(f"dynamics {size}"), head)

    def _pretokenize(self, item: str) -> Cost:
        if (frames := self._frames([item])) is None:
            return Cost()
        stored = frames * self.profile.segments.phases * (self.window + 1) / self.window * self.tokenizer.num_tokens
        return Cost(stored * flops.encoder(self.tokenizer, self.window + 1), stored * BYTES_PER_TOKEN)

    def _embed_behavior(self, item: str) -> Cost:
        return self._embed([item])

    def _finetune_embed(self, _: None) -> Cost:
        return self._embed([name for name, status in self.datasets.items() if status.role == "finetune"])

    def _embed(self, names: list[str]) -> Cost:
        if (frames := self._frames(names)) is None:
            return Cost()
        stored = frames * self.profile.segments.phases
        steps = 2 * frames if self.behavior.memory else stored  # histories overlap by half, segments by phases
        per_step = flops.prior(self.behavior, self.history) * flops.behavior_tokens(self.behavior)
        return Cost(steps * per_step, stored * math.prod(self.behavior.z_shape) * 2)

    def _evaluate_video(self, _: None) -> Cost:
        """Rollouts, likelihoods under teacher forcing, reconstructions; on one core scores and the effector's probe.

        Measured: 108 s (demo), 225 and 287 s (metaworld-small, longest horizon 64).
        """
        config, total, seconds = self.profile.evaluate_video, 0.0, 0.0
        windows = config.max_episodes * config.windows_per_episode * config.decoding.draws
        frames, longest = config.max_episodes * self._episode_frames(), max(config.horizons)
        segments = frames * (self.window + 1) / self.window
        roles = self._roles(config.pretrain_splits, config.finetune_splits)
        for (num_splits, sizes), others in zip(roles, (self.profile.train_rssm.values(), ()), strict=True):
            measured = {name: size for name, size in sizes.items() if config.models is None or name in config.models}
            of_split = windows * sum(self._rollout(size, 1, longest) for size in measured.values())
            of_split += windows * (config.context + longest) * sum(flops.rssm(each.model) for each in others)
            of_split += sum(self._likelihoods(size, name == FULL) for name, size in measured.items())
            of_split += self._reconstructed(segments + windows * (1 + longest)) + self._explained(frames)
            scored = scoring.Sizes(segments, self.tokenizer.resolution, len(measured) + len(others))
            total += num_splits * (of_split + scoring.network_flops(config, scored))
            seconds += num_splits * scoring.video_seconds(config, scored)
        asked = {"pretrain": config.pretrain_splits, "finetune": config.finetune_splits}
        for each in self.datasets.values():
            if asked[each.role]:
                seconds += scoring.probe_seconds(self.tokenizer.resolution, each.frames)
        return Cost(total, serial_seconds=seconds)

    def _likelihoods(self, size: str, follows: bool) -> float:
        """FLOP of one split: held-out and training segments, then with actions of other episodes, for which z is
        inferred anew (with a memory for their own, too). `follows`: also altered actions, and rollouts by them."""
        config, anew = self.profile.evaluate_video, 2 if self.behavior.memory else 1
        steps, seen = (count * self._episode_frames() for count in (config.max_episodes, config.max_train_episodes))
        forced = self._dynamics_flops(size) * self.tokenizer.num_tokens
        inferred = flops.prior(self.behavior, self.history) * flops.behavior_tokens(self.behavior)
        total = forced * (steps * (1 + anew) + seen) + inferred * steps * anew
        if follows:
            altered = 1 + len(ALTERATIONS) + len(DIMENSIONS)
            total += altered * config.action_episodes * self.window * (forced + inferred)
            again = len(ALTERATIONS) * config.action_episodes + len(FACTORS) * config.filmstrips
            total += again * self._rollout(size, 1, max(config.horizons))
        return total

    def _reconstructed(self, frames: float) -> float:
        """FLOP of frames that go through the tokenizer and back."""
        both = flops.encoder(self.tokenizer, self.window) + flops.decoder(self.tokenizer, self.window)
        return frames * self.tokenizer.num_tokens * both

    def _explained(self, frames: int) -> float:
        """FLOP of the likelihood of actions: under three z at once, and under a lagged one at each step anew."""
        policy = (3 + (self.window - 1) / 2) * flops.policy(self.behavior, self.window)
        per_token = flops.posterior(self.behavior, self.window) + flops.prior(self.behavior, self.history) + policy
        return frames * flops.behavior_tokens(self.behavior) * per_token

    def _episode_frames(self) -> int:
        """Of one episode, at most."""
        simulated = [entry.frames for entry in self.profile.collect_metaworld.values()]
        return max(simulated, default=EPISODE_FRAMES if self.profile.collect else SCORED_FRAMES)

    def _evaluate_uncertainty(self, _: None) -> Cost:
        """Per step the plain prediction and a branch of k + 1 frames for each depth k, of every draw.

        Drawn, by argmax, and once more from recorded frames, the ensemble beside both; then the rollouts for the
        variance. Correlations and coloured areas on one core. Measured: 93 s (demo), 58 and 200 s (metaworld-small).
        """
        config, total, seconds = self.profile.evaluate_uncertainty, 0.0, 0.0
        asked = 1 + sum(depth + 1 for depth in config.retracing_steps)
        predictions = asked * (config.decoding.samples + 1) + config.mc_rollouts + 2 * len(config.ensemble)
        for num_splits, sizes in self._roles(config.pretrain_splits, config.finetune_splits):
            if not num_splits:  # no fine-tuning
                continue
            size = sizes.get(config.model, next(iter(sizes.values())))
            windows = num_splits * config.max_episodes * config.windows_per_episode
            total += windows * predictions * self._rollout(size, config.context, config.horizon)
            total += windows * asked * config.decoding.draws * self._rollout(size, config.context, 1)
            seconds += num_splits * scoring.uncertainty_seconds(config, self.tokenizer.resolution)
        return Cost(total, serial_seconds=seconds)

    def _train_reward(self, item: str) -> Cost:
        """Frames are described twice and drawn once, forward, also those that R^2 is measured on."""
        config, frames = self.profile.train_reward[item], self.window + 1
        training = config.optimization.batch_size * config.optimization.training_steps * frames
        role = [status for status in self.datasets.values() if status.role == config.role]
        tokens = (training + config.test_episodes * len(role) * self._episode_frames()) * self.tokenizer.num_tokens
        encode, decode = flops.encoder(self.tokenizer, frames), flops.decoder(self.tokenizer, frames)
        return Cost(tokens * (3 * encode + decode))

    def _train_rssm(self, item: str) -> Cost:
        """Memory: weights and their moments alone; what convolutions keep is not estimated."""
        entry = self.profile.train_rssm[item]
        frames = entry.optimization.batch_size * (self.window + 1) * entry.optimization.training_steps
        size = num_parameters(entry.model, RSSM)
        return Cost(flops.TRAINING * flops.rssm(entry.model) * frames, size * 4, size * TRAINING_BYTES)

    def _evaluate_values(self, item: str) -> Cost:
        """Rollouts of every model; other variants are a few frames of work each."""
        config = self.profile.evaluate_values[item]
        sources = self.profile.collect_metaworld.values()
        tasks = sum(len(source.tasks) for source in sources) or len(self.datasets)
        rollouts = sum(self._rollout(name, 1, max(config.horizons)) for name in config.models)
        return Cost(tasks * config.sequences * len(config.pretrain_splits) * rollouts)

    def _evaluate_scaling(self, item: str) -> Cost:
        """One pass over the segments of each split: at most all of a role's frames, as often as it has splits."""
        config, total = self.profile.evaluate_scaling[item], 0.0
        named = (
            ("pretrain", config.pretrain_splits, config.models),
            ("finetune", config.finetune_splits, config.finetuned),
        )
        for role, splits, models in named:
            names = [name for name, status in self.datasets.items() if status.role == role]
            if splits and (frames := self._frames(names)) is not None:
                most = SCORED_FRAMES * config.max_episodes * len(names) * len(splits)
                per_frame = sum(self._dynamics_flops(name) for name in models) * self.tokenizer.num_tokens
                total += min(frames, most) * per_frame
        return Cost(total)

    def _evaluate_behavior(self, item: str) -> Cost:
        """The posterior of each segment; probes and t-SNE on one core.

        Measured: 79 s for two splits of 1,200 segments each (metaworld-small), with one drawing.
        """
        config = self.profile.evaluate_behavior[item]
        segments = len(config.splits) * config.segments
        steps = segments * self.history * flops.behavior_tokens(self.behavior)
        probed = PROBED + (DRAWINGS - 1) * SHUFFLED
        return Cost(steps * flops.prior(self.behavior, self.history), serial_seconds=segments * probed)

    def _optimize_policy(self, item: str) -> Cost:
        """Branches of imagination; one core after another the learner's steps, and the simulator's evaluations."""
        config = self.profile.optimize_policy[item]
        imagination, schedule, arena = config.imagination, config.learner_schedule, config.arena
        asked = {"retracing": 1 + sum(depth + 1 for depth in imagination.retracing_steps)}
        asked["ensemble"] = 1 + len(config.ensemble)
        factors = sum(asked.get(name, 1) for name in imagination.penalties)
        branches = len(config.seeds) * schedule.rounds * imagination.branches * factors
        flop = branches * self._rollout(config.model, imagination.context, imagination.horizon)
        steps = len(config.seeds) * len(imagination.penalties) * schedule.rounds * schedule.steps
        if not isinstance(arena, MetaworldArenaConfig):
            return Cost(flop, serial_seconds=LEARNED * steps)
        of_cloning, of_imagination = (-(-each.rounds // each.evaluate_every)
                                      for each in (config.cloning_schedule, schedule))  # fmt: skip
        evaluations = len(config.seeds) * (2 * of_cloning + len(imagination.penalties) * of_imagination)
        drawn = (arena.resolution * arena.supersample) ** 2
        tried = evaluations * config.episodes * arena.actions * (SIMULATED + DRAWN * drawn)
        return Cost(flop, serial_seconds=tried + LEARNED * steps)

    def _roles(self, pretrain: list[str], finetune: list[str]) -> list[tuple[int, dict[str, str]]]:
        """Per role: splits of all its datasets together, and {dynamics: the entry of train_dynamics with its size}."""
        counts = [sum(status.role == role for status in self.datasets.values()) for role in ("pretrain", "finetune")]
        trained = {name: name for name in self.profile.train_dynamics}
        tuned = {name: entry.initial for name, entry in self.profile.finetune_dynamics.items()}
        return [(counts[0] * len(pretrain), trained), (counts[1] * len(finetune), tuned)]

    def _rollout(self, size: str, context: int, horizon: int) -> float:
        """FLOP of one cached rollout: every frame once; a full window starts anew with its last T / 2 frames."""
        per_frame = self.tokenizer.num_tokens * (
            self._dynamics_flops(size) + flops.decoder(self.tokenizer, self.window)
        ) + flops.behavior_tokens(self.behavior) * flops.prior(self.behavior, self.history)
        keep = self.window // 2
        held = list(
            accumulate(repeat(None, horizon - 1), lambda n, _: n + 1 if n < self.window else keep, initial=context)
        )
        restarts = sum(later <= earlier for earlier, later in pairwise(held))
        return per_frame * (context + horizon - 1 + restarts * (keep - 1))

    def _dynamics_flops(self, size: str) -> float:
        trunk: STTransformerConfig = self.profile.train_dynamics[size].size
        return flops.dynamics(trunk, self.tokenizer.num_codes, self.tokenizer.num_tokens, self.window)

    def _training(
        self,
        config: OptimizationConfig,
        step: float,
        tokens: int,
        trunks: tuple[STTransformerConfig, ...],
        size: int,
        head: int = 0,
    ) -> Cost:
        """`step`: FLOP of one step; `tokens` of one step; `size`: parameters; `head`: values kept per token beside."""
        if config.training_steps == 0:
            return Cost(0.0, size * 4, size * 4)
        share = tokens / min(self.workers, config.batch_size)
        kept = KEPT_VALUES * sum(trunk.d_model * trunk.num_layers / 2 for trunk in trunks) + head
        return Cost(step * config.training_steps, size * 4, size * TRAINING_BYTES + share * kept * self.bytes_per_value)

    def _count(self, model: str) -> int:
        if model == "tokenizer":
            return num_parameters(self.tokenizer, VideoTokenizer)
        if model == "behavior":
            return num_parameters(self.behavior, BehaviorModel)
        entry = self.profile.train_dynamics[model.removeprefix("dynamics ")]
        return num_parameters(entry, self._new_dynamics)

    def _new_dynamics(self, entry) -> Dynamics:
        return new_dynamics(entry, num_codes=self.tokenizer.num_codes, z_shape=self.behavior.z_shape, seed=0)

    def _total(self, names: list[str], per_frame: float) -> float | None:
        frames = self._frames(names)
        return None if frames is None else frames * per_frame

    def _frames(self, names: list[str]) -> int | None:
        """Frames of several datasets; None as soon as one is unknown."""
        found = [self.datasets[name].frames for name in names]
        return None if None in found else sum(frames for frames in found if frames is not None)
