import numpy as np
import pytest
import tiny_models as tiny
import torch

from whale.evaluation.measuring.rollouts.reconstruction import reconstruct_long


@pytest.mark.parametrize("hold_still", [None, 255])
def test_the_ceiling_starts_from_the_given_frame_and_holds_what_the_tokens_hold(hold_still):
    tokenizer = tiny.tokenizer(hold_still=hold_still)
    frames = np.concatenate([tiny.pixel_batch(2)["frames"].numpy()] * 2, axis=1)
    shown = reconstruct_long(tokenizer, frames, 3, 1)
    assert shown.shape == frames.shape and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[:, 0], frames[:, 0])
    if hold_still is not None:  # no patch is ever chosen anew
        np.testing.assert_array_equal(shown, np.broadcast_to(frames[:, :1], frames.shape))
        return
    pixels = torch.from_numpy(frames[:, 3:7]).float() / 255  # the second piece begins where the first one ended
    with torch.inference_mode():
        decoded = (tokenizer.decode(tokenizer.encode(pixels)) * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(shown[:, 4:7], decoded[:, 1:])
