"""Recurrent state-space model: a world model of another family, to be compared with ours (DreamerV3, arXiv 2301.04104).

A deterministic state h_t = GRU(h_{t-1}, z_{t-1}, a_{t-1}) and a stochastic one z_t of K categoricals. The posterior
q(z_t | h_t, o_t) sees the frame, the prior p(z_t | h_t) guesses it, and both decode to pixels: whoever imagines draws
from the prior. Here without DreamerV3's heads for reward and continuation: it is scored on frames alone.

Shapes: B batch, F frames (T + 1), T window, R resolution, A action size, D width of h, K categoricals, M classes,
E width of an encoded frame.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from whale.baselines.rssm.networks import ConvDecoder, ConvEncoder, Dense, GRUCell
from whale.common.config import Config
from whale.models.behavior.categorical import (
    balanced_kl,
    kl_divergence,
    mix_uniform,
    mode,
    sample,
    straight_through,
)
from whale.models.trunk.folder import PublishedModel
from whale.models.trunk.linear import linear
from whale.models.trunk.masking import mean_over_valid

MEAN_RANGE = (0.02, 0.98)  # a pixel that is always black must not cost an endless logit


class RSSMConfig(Config):
    """`channels`: one entry for each halving of the image; `num_categories` x `num_classes`: K x M of z.

    `kl_prior`, `kl_posterior`, `free_nats`: weights of the two sides of the KL and what is left free of it (Eq. 5:
    1, 0.1, 1 nat). `mean_residual`: as TokenizerConfig has it, so that a small budget is spent on what moves.
    """

    resolution: int = Field(gt=0)
    action_size: int = Field(gt=0)
    channels: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    hidden: int = Field(gt=0)
    state_size: int = Field(gt=0)
    num_categories: int = Field(gt=0)
    num_classes: int = Field(gt=1)
    unimix: float = Field(ge=0, lt=1)
    kl_prior: float = Field(ge=0)
    kl_posterior: float = Field(ge=0)
    free_nats: float = Field(ge=0)
    mean_residual: bool

    @model_validator(mode="after")
    def _halves_fit(self) -> Self:
        if self.resolution % 2 ** len(self.channels):
            raise ValueError(f"resolution {self.resolution} cannot be halved {len(self.channels)} times")
        return self

    @property
    def z_shape(self) -> tuple[int, int]:
        """(K, M): z is K one-hot vectors of M classes."""
        return self.num_categories, self.num_classes


@dataclass(frozen=True)
class Observed:
    """What the model made of frames: h [B, F, D], log q(z | h, o) and the z that were taken [B, F, K, M]."""

    state: Tensor
    log_posterior: Tensor
    z: Tensor


class RSSM(PublishedModel):
    """Encoder, recurrent step, prior, posterior, decoder."""

    kind = "rssm"
    config_class = RSSMConfig

    def __init__(self, config: RSSMConfig):
        super().__init__()
        self.config = config
        z_size, size = config.num_categories * config.num_classes, config.state_size
        self.encoder = ConvEncoder(config.resolution, config.channels)
        self.initial = nn.Parameter(torch.zeros(size))
        self.taken = Dense(z_size + config.action_size, config.hidden)
        self.recurrent = GRUCell(config.hidden, size)
        self.prior_head = _z_head(size, config.hidden, z_size)
        self.posterior_head = _z_head(size + self.encoder.size, config.hidden, z_size)
        self.decoder = ConvDecoder(size + z_size, config.resolution, config.channels)
        self.mean_logit: Tensor | None
        if config.mean_residual:
            self.decoder.start_at_zero()
            self.register_buffer("mean_logit", torch.zeros(config.resolution, config.resolution, 3))
        else:
            self.mean_logit = None

    def start_from_mean(self, mean_image_RRC: Tensor) -> None:
        """Give `mean_residual` its image, in [0, 1]; does nothing without that option."""
        if self.mean_logit is not None:
            self.mean_logit.copy_(mean_image_RRC.clamp(*MEAN_RANGE).logit())

    def encode(self, frames_RRC: Tensor) -> Tensor:
        """Frames in [0, 1] [..., R, R, 3] -> [..., E], each by itself."""
        return self.encoder(frames_RRC)

    def first_state(self, batch: int) -> Tensor:
        """h of an episode's first given frame, [B, D]."""
        return self.initial.tanh().expand(batch, -1)

    def advance(self, state_BD: Tensor, z_BKM: Tensor, action_BA: Tensor) -> Tensor:
        """h_{t+1} [B, D] from h_t, z_t and the normalised a_t."""
        return self.recurrent(self.taken(torch.cat([z_BKM.flatten(1), action_BA], dim=-1)), state_BD)

    def prior(self, state_D: Tensor) -> Tensor:
        """log p(z | h): [..., D] -> [..., K, M]."""
        return self._log_probs(self.prior_head(state_D))

    def posterior(self, state_D: Tensor, encoded_E: Tensor) -> Tensor:
        """log q(z | h, o): [..., D], [..., E] -> [..., K, M]."""
        return self._log_probs(self.posterior_head(torch.cat([state_D, encoded_E], dim=-1)))

    def decode(self, state_D: Tensor, z_KM: Tensor) -> Tensor:
        """[..., D], [..., K, M] -> frames in (0, 1) [..., R, R, 3]."""
        logits = self.decoder(torch.cat([state_D, z_KM.flatten(-2)], dim=-1))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bfloat16 has fewer values than a pixel
        return (logits if self.mean_logit is None else logits + self.mean_logit).sigmoid()

    def observe(self, encoded_BFE: Tensor, actions_BTA: Tensor, uniform_BFK: Tensor | None = None) -> Observed:
        """Follow F encoded frames and the T = F - 1 normalised actions between them.

        z is drawn by `uniform` in [0, 1), with the gradient of its probabilities; without, it is the mode.
        """
        state, taken = self.first_state(len(encoded_BFE)), list[Tensor]()
        states, log_posteriors = [], []
        for number, encoded_BE in enumerate(encoded_BFE.unbind(1)):
            if number:
                state = self.advance(state, taken[-1], actions_BTA[:, number - 1])
            log_q = self.posterior(state, encoded_BE)
            if uniform_BFK is None:
                z = mode(log_q)
            else:
                z = straight_through(sample(log_q.detach(), uniform_BFK[:, number]), log_q)
            states.append(state)
            log_posteriors.append(log_q)
            taken.append(z)
        return Observed(torch.stack(states, 1), torch.stack(log_posteriors, 1), torch.stack(taken, 1))

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of decoded frames plus the balanced KL of what followed an action (Eq. 4, 5).

        `frames` uint8 [B, T+1, R, R, 3], `action` [B, T, A], `action_valid` [B, T], `num_frames` [B], `uniform`
        [B, T, noise_size]. The first frame has no KL: it is given to whoever imagines, nothing has to guess it.
        """
        frames, actions = self.pixels(batch["frames"]), batch["action"]
        num_frames, (categories, _) = frames.shape[1], self.config.z_shape
        uniform = batch["uniform"].flatten(1)[:, : num_frames * categories].unflatten(1, (num_frames, categories))
        seen = self.observe(self.encode(frames), actions, uniform)
        squared_BF = (self.decode(seen.state, seen.z) - frames).square().sum((-3, -2, -1))
        log_q, log_p = seen.log_posterior[:, 1:], self.prior(seen.state[:, 1:])
        step_BF = torch.arange(num_frames, device=frames.device)
        is_real = step_BF < batch["num_frames"][:, None]
        is_followed = is_real[:, 1:] & batch["action_valid"]
        error = mean_over_valid(squared_BF, is_real)
        config = self.config
        weights = {"to_prior": config.kl_prior, "to_posterior": config.kl_posterior, "free_nats": config.free_nats}
        kl = mean_over_valid(balanced_kl(log_q, log_p, **weights), is_followed)
        per_value = squared_BF.detach() / frames[0, 0].numel()
        psnr = mean_over_valid(-10 * per_value.clamp_min(1e-10).log10(), is_real)
        plain_kl = mean_over_valid(kl_divergence(log_q.detach(), log_p.detach()), is_followed)
        return error + kl, {"psnr": psnr, "kl": plain_kl, "squared_error": error}

    def _log_probs(self, logits_Z: Tensor) -> Tensor:
        return mix_uniform(logits_Z.unflatten(-1, self.config.z_shape), self.config.unimix)


def noise_size(config: RSSMConfig, window: int) -> int:
    """Numbers of each of T steps that suffice to draw z of T + 1 frames."""
    return config.num_categories + -(-config.num_categories // window)


def _z_head(fan_in: int, hidden: int, z_size: int) -> nn.Sequential:
    return nn.Sequential(Dense(fan_in, hidden), linear(hidden, z_size, bias=True))
