"""Video tokenizer: ST-transformer VQ-VAE, frames <-> tokens (P 5.1.2, Table 5; counts in docs/explanation/paper.md).

Shapes: B batch, T frames (window + 1), N tokens per frame, R resolution, E latent width, P patch size.
"""

from typing import Any, Literal, Self

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from whale.common.config import Config
from whale.models.tokenizer.quantizer import Quantizer
from whale.models.trunk.cache import TemporalCache
from whale.models.trunk.folder import PublishedModel
from whale.models.trunk.layers import patchify, unpatchify
from whale.models.trunk.linear import linear
from whale.models.trunk.masking import mean_over_valid
from whale.models.trunk.st_transformer import STTransformer, STTransformerConfig

HALF_A_STEP = 0.5 / 255  # pixels are multiples of 1 / 255, up to rounding
MEAN_RANGE = (0.02, 0.98)  # a pixel that is always black must not cost an endless logit


class TokenizerConfig(Config):
    """Table 5; the options below (the paper's loss is `pixel_weight: uniform`) are for small CPU runs only.

    `mean_residual`: the decoder adds to the logit of the training data's mean image, its last layer starting at zero.
    `hold_still`: a patch keeps its token while none of its pixels is further than this, in steps of 1 / 255, from when
    the token was chosen, and a rollout shows the same pixels while the token stays (the skipped blocks of a video
    codec). Without it a small encoder relabels a sixth of the patches that stand still, and no dynamics can predict
    that; and a small decoder blurs what the given frame shows sharply.
    """

    resolution: int = Field(gt=0)
    patch_size: int = Field(gt=0)
    num_codes: int = Field(gt=1, le=65536)
    latent_dim: int = Field(gt=0)
    commitment: float = Field(ge=0)
    pixel_weight: Literal["uniform", "motion"] = "uniform"
    mean_residual: bool = False
    hold_still: int | None = Field(default=None, ge=0, le=255)
    encoder: STTransformerConfig
    decoder: STTransformerConfig

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model without `hold_still` is written as it was before there was any."""
        values = serialize(self)
        return values if self.hold_still is not None else {key: values[key] for key in values if key != "hold_still"}

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.resolution % self.patch_size:
            raise ValueError(f"resolution {self.resolution} is not a multiple of patch_size {self.patch_size}")
        return self

    @property
    def num_tokens(self) -> int:
        """Tokens per frame."""
        return (self.resolution // self.patch_size) ** 2


class VideoTokenizer(PublishedModel):
    """Encoder, codebook, decoder. Every trunk is causal: a frame's tokens depend on where its segment starts."""

    kind = "video_tokenizer"
    config_class = TokenizerConfig
    needs_whole_weights = "the codebook is looked up and mended as a whole"

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        patch_dim = 3 * config.patch_size**2
        self.encoder = nn.ModuleDict(
            {
                "patches": linear(patch_dim, config.encoder.d_model, bias=True),
                "trunk": STTransformer(config.encoder),
                "latents": linear(config.encoder.d_model, config.latent_dim, bias=True),
            }
        )
        self.quantizer = Quantizer(config.num_codes, config.latent_dim)
        self.decoder = nn.ModuleDict(
            {
                "latents": linear(config.latent_dim, config.decoder.d_model, bias=True, scale=config.latent_dim**0.5),
                "trunk": STTransformer(config.decoder),
                "patches": linear(config.decoder.d_model, patch_dim, bias=True),
            }
        )
        self.mean_logit: Tensor | None
        if config.mean_residual:
            nn.init.zeros_(self.decoder.get_parameter("patches.weight"))
            self.register_buffer("mean_logit", torch.zeros(config.resolution, config.resolution, 3))
        else:
            self.mean_logit = None
        self.is_quantizing = True  # the trainer switches it off during codebook_warmup_steps

    def latents(self, frames_BTRRC: Tensor) -> Tensor:
        """Frames in [0, 1] -> l2-normalised latents [B, T, N, E] before quantisation."""
        x_BTND = self.encoder["patches"](patchify(frames_BTRRC * 4 - 2, self.config.patch_size))
        return F.normalize(self.encoder["latents"](self.encoder["trunk"](x_BTND)), dim=-1)

    def encode(self, frames_BTRRC: Tensor) -> Tensor:
        """Frames in [0, 1] -> tokens [B, T, N] int64; frame 0 is the segment's first."""
        tokens_BTN = self.quantizer.lookup(self.latents(frames_BTRRC))
        if self.config.hold_still is None:
            return tokens_BTN
        patches_BTNP = patchify(frames_BTRRC, self.config.patch_size)
        return held(tokens_BTN, patches_BTNP, self.config.hold_still / 255)

    def decode(self, tokens_BTN: Tensor) -> Tensor:
        """Tokens -> frames [B, T, R, R, 3] in (0, 1)."""
        return self.decode_latents(self.quantizer.embed(tokens_BTN))

    def decode_latents(self, latents_BTNE: Tensor) -> Tensor:
        """Normalised codes (or latents) -> frames in (0, 1)."""
        return self._paint(self.decoder["trunk"](self.decoder["latents"](latents_BTNE)))

    def hold_pixels(self, image_BRRC: Tensor, tokens_BN: Tensor, shown_BRRC: Tensor, before_BN: Tensor) -> Tensor:
        """A decoded image, with what the frame before `shown` wherever the token is still that `before`.

        Of the same dtype as `shown`. Without `hold_still` the image as it is.
        """
        if self.config.hold_still is None:
            return image_BRRC
        patch, side = self.config.patch_size, self.config.resolution // self.config.patch_size
        stays_BPP = (tokens_BN == before_BN).unflatten(-1, (side, side))
        stays_BRR1 = stays_BPP.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[..., None]
        return torch.where(stays_BRR1, shown_BRRC, image_BRRC)

    def empty_cache(self, batch: int, capacity: int) -> TemporalCache:
        """Room for `capacity` decoded frames."""
        return self._painter.empty_cache(batch, self.config.num_tokens, capacity)

    def extend(self, tokens_BFN: Tensor, past: TemporalCache) -> tuple[Tensor, TemporalCache]:
        """The last frame [B, R, R, 3] of F decoded ones that follow those in `past`, and the longer cache."""
        x_BFND, present = self._painter.extend(self.decoder["latents"](self.quantizer.embed(tokens_BFN)), past)
        return self._paint(x_BFND[:, -1]), present

    def reserve(self, num_frames: int) -> None:
        """Make the encoder's positions for segments of up to `num_frames` frames."""
        trunk = self.encoder["trunk"]
        assert isinstance(trunk, STTransformer)
        trunk.reserve(num_frames, self.config.num_tokens)

    @property
    def _painter(self) -> STTransformer:
        trunk = self.decoder["trunk"]
        assert isinstance(trunk, STTransformer)
        return trunk

    def start_from_mean(self, mean_image_RRC: Tensor) -> None:
        """Give `mean_residual` its image, in [0, 1]; does nothing without that option."""
        if self.mean_logit is not None:
            self.mean_logit.copy_(mean_image_RRC.clamp(*MEAN_RANGE).logit())

    def _paint(self, x_BTND: Tensor) -> Tensor:
        """What the decoder's trunk says of each token -> frames in (0, 1)."""
        logits = unpatchify(self.decoder["patches"](x_BTND), self.config.patch_size)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bfloat16 has fewer values than a pixel
        return (logits if self.mean_logit is None else logits + self.mean_logit).sigmoid()

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 + codebook + commitment * commitment over the valid frames of `frames` uint8 [B, T, R, R, 3] (P 5.1.2)."""
        frames = batch["frames"].float() / 255
        latents = self.latents(frames)
        quantized = self.quantizer(latents)
        decoded = self.decode_latents(quantized.latents if self.is_quantizing else latents)
        valid_BT = torch.arange(frames.shape[1], device=frames.device) < batch["num_frames"][:, None]
        error = (decoded - frames).abs()
        weighted = error * _motion_weight(frames) if self.config.pixel_weight == "motion" else error
        reconstruction = mean_over_valid(weighted.mean((-3, -2, -1)), valid_BT)
        codebook = mean_over_valid(quantized.codebook_error.mean(-1), valid_BT)
        commitment = mean_over_valid(quantized.commitment_error.mean(-1), valid_BT)
        quantization = codebook + self.config.commitment * commitment
        # During warm-up the codebook takes part with weight 0, so that every worker reduces the same gradients.
        loss = reconstruction + quantization * float(self.is_quantizing)
        squared = (decoded.detach() - frames).square().mean((-3, -2, -1)).clamp_min(1e-10)
        psnr = mean_over_valid(-10 * squared.log10(), valid_BT)
        return loss, {"l1": mean_over_valid(error.mean((-3, -2, -1)), valid_BT), "commitment": commitment, "psnr": psnr}


def held(tokens_BTN: Tensor, patches_BTNP: Tensor, tolerance: float) -> Tensor:
    """Tokens that stay while no pixel [P] of their patch is further than `tolerance` from when they were chosen.

    The comparison is with that patch, not with the frame before: slow motion adds up and is not missed.
    """
    kept, chosen_from = [tokens_BTN[:, 0]], patches_BTNP[:, 0]
    for token_BN, patch_BNP in zip(tokens_BTN.unbind(1)[1:], patches_BTNP.unbind(1)[1:], strict=True):
        is_still_BN = (patch_BNP - chosen_from).abs().amax(-1) <= tolerance + HALF_A_STEP
        kept.append(torch.where(is_still_BN, kept[-1], token_BN))
        chosen_from = torch.where(is_still_BN[..., None], chosen_from, patch_BNP)
    return torch.stack(kept, dim=1)


def _motion_weight(frames_BTRRC: Tensor) -> Tensor:
    """[B, 1, R, R, 1], mean 1 per segment: 0.3 + 3 x the pixel's standard deviation over the segment, normalised.

    A small training budget otherwise goes to the static background.
    """
    # std() itself takes a tenth of a small model's step.
    deviation = (frames_BTRRC - frames_BTRRC.mean(dim=1, keepdim=True)).square().mean(dim=1, keepdim=True).sqrt()
    weight = 0.3 + 3.0 * deviation.mean(-1, keepdim=True)
    return weight / weight.mean(dim=(2, 3), keepdim=True)
