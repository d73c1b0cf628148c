"""The recurrent model: shapes, its loss against a slow reference, what a gradient passes, what depends on what."""

import numpy as np
import pytest
import tiny_models as tiny
import torch

from whale.baselines.rssm.rssm import RSSM, RSSMConfig, noise_size
from whale.common.errors import BadDataError, ConfigError
from whale.models.behavior.categorical import mode
from whale.models.trunk.folder import save_model

VALUES = tiny.rssm_config().model_dump()


def observed(model: RSSM, batch: dict[str, torch.Tensor], uniform=None):
    return model.observe(model.encode(model.pixels(batch["frames"])), batch["action"], uniform)


def test_shapes_are_those_of_its_docstrings():
    model, batch = tiny.rssm(), tiny.pixel_batch(size=3)
    seen = observed(model, batch, torch.rand(3, tiny.WINDOW + 1, 4))
    assert seen.state.shape == (3, 5, 24) and seen.z.shape == seen.log_posterior.shape == (3, 5, 4, 6)
    assert model.prior(seen.state).shape == (3, 5, 4, 6)
    frames = model.decode(seen.state, seen.z)
    assert frames.shape == (3, 5, 16, 16, 3) and frames.min() > 0 and frames.max() < 1
    assert model.encode(model.pixels(batch["frames"])).shape == (3, 5, model.encoder.size)
    np.testing.assert_allclose(model.prior(seen.state).exp().sum(-1).detach(), 1.0, atol=1e-5)


def test_numbers_of_a_window_suffice_for_one_frame_more():
    for categories, window in ((4, 4), (16, 8), (32, 16), (3, 7)):
        needed = categories * (window + 1)
        assert needed <= noise_size(tiny.rssm_config(num_categories=categories), window) * window < needed + window


def test_the_loss_is_squared_error_of_real_frames_and_the_balanced_kl_of_valid_transitions():
    """In float64 and step by step, with a segment of 3 real frames and one transition that does not count."""
    model, batch = tiny.rssm(kl_prior=0.7, kl_posterior=0.2, free_nats=0.05).double(), tiny.pixel_batch(size=2)
    batch["num_frames"], batch["uniform"] = torch.tensor([5, 3]), batch["uniform"].double()
    batch["action"], batch["action_valid"][0, 1] = batch["action"].double(), False
    loss, logs = model(batch)
    numbers = batch["uniform"].flatten(1)[:, :20].reshape(2, 5, 4)
    frames = batch["frames"].double() / 255
    parts = []
    for row, (real, counted) in enumerate([(range(5), (0, 2, 3)), (range(3), (0, 1))]):
        state, errors, kls = model.first_state(1), [], []
        for step in range(5):
            encoded = model.encode(frames[row : row + 1, step])
            log_q = model.posterior(state, encoded)
            cumulative = log_q.exp().cumsum(-1)
            index = (cumulative < numbers[row, step][None, :, None]).sum(-1)
            z = torch.nn.functional.one_hot(index, 6).double()
            if step in real:
                errors.append((model.decode(state, z) - frames[row, step]).square().sum())
            if step and step - 1 in counted:
                q, p = log_q.exp(), model.prior(state)
                kl = (q * (log_q - p)).sum().clamp_min(0.05)
                kls.append(0.9 * kl)
            if step < 4:
                state = model.advance(state, z, batch["action"][row : row + 1, step])
        parts.append(torch.stack(errors).mean() + torch.stack(kls).mean())
    torch.testing.assert_close(loss, torch.stack(parts).mean())
    assert set(logs) == {"psnr", "kl", "squared_error"}


def test_what_is_drawn_passes_the_gradient_of_its_probabilities():
    model, batch = tiny.rssm(), tiny.pixel_batch(size=2)
    encoded = model.encode(model.pixels(batch["frames"])).detach().requires_grad_()
    seen = model.observe(encoded, batch["action"], torch.rand(2, 5, 4))
    weight = torch.randn(seen.z[:, 0].shape)
    (through,) = torch.autograd.grad((seen.z[:, 0] * weight).sum(), encoded, retain_graph=True)
    (plain,) = torch.autograd.grad((seen.log_posterior[:, 0].exp() * weight).sum(), encoded, retain_graph=True)
    assert plain.abs().max() > 0
    torch.testing.assert_close(through, plain)
    assert set(seen.z.detach().unique().round(decimals=5).tolist()) <= {0.0, 1.0}


def test_a_later_frame_or_action_changes_nothing_before_it():
    model, batch = tiny.rssm(), tiny.pixel_batch(size=2)
    before = observed(model, batch)
    batch["frames"][:, 3], batch["action"][:, 2] = 255 - batch["frames"][:, 3], -batch["action"][:, 2]
    after = observed(model, batch)
    torch.testing.assert_close(after.state[:, :3], before.state[:, :3], rtol=0, atol=0)
    torch.testing.assert_close(after.z[:, :3], before.z[:, :3], rtol=0, atol=0)
    assert not torch.equal(after.state[:, 3], before.state[:, 3])


def test_with_a_mean_image_it_begins_by_showing_that():
    model, image = tiny.rssm(mean_residual=True), torch.rand(16, 16, 3) * 0.9 + 0.05
    model.start_from_mean(image)
    shown = model.decode(torch.randn(2, 24), mode(torch.randn(2, 4, 6)))
    torch.testing.assert_close(shown, image.expand(2, -1, -1, -1))


def test_a_folder_gives_the_same_model_and_one_of_other_sizes_is_refused(tmp_path):
    model = tiny.rssm().eval()
    save_model(tmp_path, model)
    again, state, z = RSSM.restore(tmp_path), torch.randn(1, 24), mode(torch.randn(1, 4, 6))
    assert torch.equal(again.decode(state, z), model.decode(state, z))
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"hidden": 32', '"hidden": 33')
    )
    with pytest.raises(BadDataError, match="do not fit"):
        RSSM.restore(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": [8, 16, 16, 16, 16]}, "cannot be halved 5 times"),
        ({"channels": []}, "channels"),
        ({"unimix": 1.0}, "unimix"),
        ({"num_classes": 1}, "num_classes"),
        ({"hidden": "32"}, "hidden"),
        ({"layers": 2}, "layers"),
    ],
)
def test_a_config_that_does_not_hold_names_what_is_wrong(change, said):
    with pytest.raises(ConfigError, match=said):
        RSSMConfig.parse(VALUES | change, file="params.yaml", place="train_rssm.dreamer.model")
