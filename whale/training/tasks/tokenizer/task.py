"""The task of training, or fine-tuning, the video tokenizer on pixels (P 5.1.2; P B.2: fine-tune the decoder)."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from whale.common.config import Config
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.training.loop.optimizer import OptimizationConfig
from whale.training.loop.task import Loader, Task
from whale.training.tasks.tokenizer.codebook import CodebookConfig, CodebookUpkeep


class TrainTokenizerConfig(Config):
    """Section train_tokenizer."""

    model: TokenizerConfig
    codebook: CodebookConfig
    optimization: OptimizationConfig


class FinetuneTokenizerConfig(Config):
    """Section finetune_tokenizer; frozen encoder and codebook keep every stored token bit-identical."""

    freeze: list[Literal["encoder", "codebook"]] = Field(max_length=2)
    optimization: OptimizationConfig


def new_tokenizer(config: TokenizerConfig, seed: int) -> VideoTokenizer:
    """A tokenizer with seeded initial weights."""
    torch.manual_seed(seed)
    return VideoTokenizer(config)


def train_tokenizer_task(model: VideoTokenizer, config: TrainTokenizerConfig, loader: Loader, seed: int) -> Task:
    """Train every part; the codebook starts from data and idle codes are replaced."""
    upkeep = CodebookUpkeep(model, config.codebook, seed=seed, training_steps=config.optimization.training_steps)
    return Task(model, loader, config.optimization, upkeep=upkeep)


def finetune_tokenizer_task(model: VideoTokenizer, config: FinetuneTokenizerConfig, loader: Loader) -> Task:
    """Train what is not frozen; with encoder and codebook frozen the loss is L1 plus constants."""
    frozen: dict[str, nn.Module] = {"encoder": model.encoder, "codebook": model.quantizer}
    for part in config.freeze:
        frozen[part].requires_grad_(False)
    return Task(model, loader, config.optimization)
