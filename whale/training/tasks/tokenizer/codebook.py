"""Upkeep of the codebook: start it from data, and bring codes back that no token uses.

Without both, the tokenizer of a short run can collapse to a tenth of its codes.
Every choice is keyed by (seed, step) and made on the gathered global batch, so any number of workers makes the same.
Shapes: K codes, E latent width, M tokens of the global batch.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from whale.common.config import Config
from whale.models.tokenizer.quantizer import Quantized
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.training.loop.communicator import Communicator

CODEBOOK = "quantizer.codebook"  # its name among the model's parameters


class CodebookConfig(Config):
    """Steps without quantisation at the start, and idle steps after which a code is replaced (0 = never)."""

    codebook_warmup_steps: int = Field(ge=0)
    dead_code_steps: int = Field(ge=0)


class CodebookUpkeep:
    """Runs around each training step of a VideoTokenizer; `idle_steps` [K] is its whole state."""

    def __init__(self, model: VideoTokenizer, config: CodebookConfig, *, seed: int, training_steps: int):
        self.model, self.config, self.seed = model, config, seed
        # Replaced codes need time to settle: none in the last tenth.
        self.last_reset_step = training_steps - training_steps // 10
        self.idle_steps = torch.zeros(model.config.num_codes, dtype=torch.int64)
        self._tokens: list[Tensor] = []
        self._latents: list[Tensor] = []
        model.quantizer.register_forward_hook(self._keep)

    def before_step(self, step: int) -> None:
        """Quantise from `codebook_warmup_steps` on."""
        self.model.is_quantizing = step >= self.config.codebook_warmup_steps
        self._tokens, self._latents = [], []

    def after_step(
        self,
        step: int,
        communicator: Communicator,
        optimizer: torch.optim.Optimizer,
        average: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Start the codebook from data, count use, replace idle codes; returns usage (share) and perplexity."""
        if step + 1 == self.config.codebook_warmup_steps:
            self._replace(torch.ones_like(self.idle_steps, dtype=torch.bool), step, communicator, optimizer, average)
        if not self.model.is_quantizing:
            return {}
        num_codes = self.model.config.num_codes
        tokens_M = torch.cat(self._tokens).flatten()
        counts = tokens_M.new_zeros(num_codes).scatter_add_(0, tokens_M, torch.ones_like(tokens_M)).float()
        counts = communicator.sum(counts)
        self.idle_steps = (self.idle_steps.to(counts.device) + 1) * (counts == 0)
        period = self.config.dead_code_steps
        if period and (step + 1) % max(period // 4, 1) == 0 and step < self.last_reset_step:
            self._replace(self.idle_steps >= period, step, communicator, optimizer, average)
        share = counts / counts.sum()
        perplexity = (-torch.xlogy(share, share).sum()).exp()
        return {"codes_used_in_batch": (counts > 0).float().mean(), "perplexity_in_batch": perplexity}

    def tensors(self) -> dict[str, Tensor]:
        """What a restart needs."""
        return {"idle_steps": self.idle_steps}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        self.idle_steps = tensors["idle_steps"]

    def _keep(self, quantizer: nn.Module, inputs: tuple[Tensor], quantized: Quantized) -> None:
        """Tokens and latents of each micro-batch until the step is done; a validation is none of it."""
        if quantizer.training:
            self._tokens.append(quantized.tokens)
            self._latents.append(inputs[0].detach())

    @torch.no_grad()
    def _replace(
        self,
        dead_K: Tensor,
        step: int,
        communicator: Communicator,
        optimizer: torch.optim.Optimizer,
        average: Mapping[str, Tensor],
    ) -> None:
        """Set dead codes to latents of the global batch, drawn without replacement; moments and averages start anew.

        Written for all codes and without asking how many are dead, which only the device knows.
        """
        codebook = self.model.quantizer.codebook
        latents_ME = communicator.gather(torch.cat(self._latents).flatten(0, 1)).flatten(0, -2)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        order_M = torch.randperm(len(latents_ME), generator=generator).to(codebook.device)
        dead_K = dead_K.to(codebook.device)
        place_K = (dead_K.cumsum(0) - 1).clamp_min(0) % len(order_M)  # among the dead ones
        dead_K1, fresh_KE = dead_K[:, None], latents_ME[order_M[place_K]].to(codebook.dtype)
        codebook.copy_(torch.where(dead_K1, fresh_KE, codebook))
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in optimizer.state.get(codebook, {}):
                optimizer.state[codebook][moment].masked_fill_(dead_K1, 0)
        if CODEBOOK in average:
            average[CODEBOOK].copy_(torch.where(dead_K1, codebook, average[CODEBOOK]))
        self.idle_steps = self.idle_steps.to(codebook.device).masked_fill(dead_K, 0)
