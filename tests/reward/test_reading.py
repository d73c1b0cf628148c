"""Which encoder a head reads: its name, and rewards of episodes read off their frames."""

import numpy as np
import tiny_models
import torch

from whale.reward.reading import encoder_digest, features, read_rewards
from whale.reward.reward import RewardHead, RewardHeadConfig, Seen


def head() -> RewardHead:
    torch.manual_seed(0)
    about = {"instructions": ["a", "b"], "bounds": [-9.0, 9.0], "encoder": "0" * 64}
    return RewardHead(RewardHeadConfig(feature_size=128, action_size=7, hidden=8, **about)).eval()


def test_the_name_of_an_encoder_outlives_rounding_and_a_new_decoder_but_no_other_weight():
    tokenizer = tiny_models.tokenizer()
    name = encoder_digest(tokenizer)
    with torch.no_grad():
        for each in (*tokenizer.decoder.parameters(), *tokenizer.quantizer.parameters()):
            each.add_(1.0)
        assert encoder_digest(tokenizer) == name
        for each in tokenizer.encoder.parameters():
            each.copy_(each.half())
        assert encoder_digest(tokenizer) == name
        tokenizer.encoder.get_parameter("latents.weight")[0, 0] += 0.5
    assert encoder_digest(tokenizer) != name


def test_rewards_of_an_episode_are_those_of_each_step_by_itself():
    rng, tokenizer, judge = np.random.default_rng(0), tiny_models.tokenizer().eval(), head()
    frames = rng.integers(0, 256, (3, 5, 16, 16, 3), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (3, 4, 7)).astype(np.float32)
    texts = ["a", "b", "a"]
    found = read_rewards(judge, tokenizer, frames, actions, texts, batch_size=2)
    assert found.shape == (3, 4) and found.dtype == np.float64
    with torch.no_grad():
        seen = features(tokenizer, tokenizer.pixels(frames[1:2]))[0]
        step = Seen(seen[0], seen[2], seen[3], torch.from_numpy(actions[1, 2]), torch.tensor(1))
        np.testing.assert_allclose(judge.predict(step).item(), found[1, 2], atol=1e-5)
    later = read_rewards(judge, tokenizer, frames[:, 2:], actions[:, 2:], texts, frames[:, 0])
    np.testing.assert_allclose(later, found[:, 2:], atol=1e-5)
    assert not np.allclose(later, read_rewards(judge, tokenizer, frames[:, 2:], actions[:, 2:], texts))
