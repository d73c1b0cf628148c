"""Arithmetic of one forward pass, in FLOP per token: matrices and attention; norms, biases and look-ups are left out.

A trunk costs 16 L D^2 + (L/2)(4 N D + 4 T D): per pair two attentions (8 D^2 each) and one MLP (16 D^2), then scores
and sums over N tokens of the frame and T frames. Causal attention is counted in full, as if no half were skipped.
Training costs three forward passes: one forward, two for the gradients of weights and of activations.

Letters: L num_layers, D d_model, N tokens per frame, T frames, V codes.
"""

from whale.models.trunk.st_transformer import STTransformerConfig

TRAINING = 3


def trunk(size: STTransformerConfig, num_tokens: int, num_frames: int) -> float:
    """FLOP per token of one trunk."""
    matrices = 16 * size.num_layers * size.d_model**2
    return matrices + size.num_layers / 2 * 4 * size.d_model * (num_tokens + num_frames)


def dynamics(size: STTransformerConfig, num_codes: int, num_tokens: int, num_frames: int) -> float:
    """FLOP per token of the trunk and the tied head."""
    return trunk(size, num_tokens, num_frames) + 2 * num_codes * size.d_model
