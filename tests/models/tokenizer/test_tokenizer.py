import tiny_models as tiny
import torch

from whale.models.tokenizer.tokenizer import VideoTokenizer, held
from whale.models.trunk.folder import load_model, save_model, tensor_digest


def test_tokens_and_decoded_frames_do_not_depend_on_later_frames():
    model, frames = tiny.tokenizer(), tiny.pixel_batch()["frames"].float() / 255
    other = frames.clone()
    other[:, 3:] = 1 - other[:, 3:]
    assert torch.equal(model.encode(frames)[:, :3], model.encode(other)[:, :3])
    tokens = model.encode(frames)
    changed = tokens.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % tiny.NUM_CODES
    torch.testing.assert_close(model.decode(tokens)[:, :3], model.decode(changed)[:, :3])


def test_padded_frames_carry_no_loss():
    model, batch = tiny.tokenizer(), tiny.pixel_batch()
    batch["num_frames"] = torch.tensor([3, 5, 2])
    loss = model(batch)[0]
    for row, valid in enumerate([3, 5, 2]):
        batch["frames"][row, valid:] = 0
    torch.testing.assert_close(model(batch)[0], loss)


def test_motion_weights_change_nothing_on_a_static_segment():
    batch = tiny.pixel_batch()
    batch["frames"] = batch["frames"][:, :1].expand_as(batch["frames"])
    plain, weighted = tiny.tokenizer(), tiny.tokenizer(pixel_weight="motion")
    torch.testing.assert_close(plain(batch)[0], weighted(batch)[0])


def test_one_batch_can_be_overfitted():
    model, batch = tiny.tokenizer(), tiny.pixel_batch(size=1)
    smooth = torch.linspace(0, 255, 16).to(torch.uint8)
    batch["frames"] = smooth[None, None, :, None, None].expand(1, 5, 16, 16, 3).clone()
    batch["frames"][:, :, :8] //= 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = model(batch)[1]["l1"].item()
    for _ in range(150):
        optimizer.zero_grad()
        model(batch)[0].backward()
        optimizer.step()
    assert model(batch)[1]["l1"].item() < 0.1 * first


def test_a_published_folder_loads_bit_equal_and_has_the_same_bytes_twice(tmp_path):
    model = tiny.tokenizer()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, model)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    loaded = load_model(tmp_path / "a", VideoTokenizer)
    assert tensor_digest(loaded.state_dict()) == tensor_digest(model.state_dict())
    assert loaded.config == model.config


def test_with_a_mean_residual_an_untrained_decoder_paints_the_mean_image(tmp_path):
    model = tiny.tokenizer(mean_residual=True)
    mean = torch.linspace(0.1, 0.9, 16)[:, None, None].expand(16, 16, 3)
    model.start_from_mean(mean)
    tokens = model.encode(tiny.pixel_batch()["frames"].float() / 255)
    torch.testing.assert_close(model.decode(tokens), mean.expand(*tokens.shape[:2], 16, 16, 3))
    save_model(tmp_path, model)
    torch.testing.assert_close(load_model(tmp_path, VideoTokenizer).mean_logit, model.mean_logit)


def test_a_mean_residual_adds_no_parameter():
    plain, residual = tiny.tokenizer(), tiny.tokenizer(mean_residual=True)
    assert [p.shape for p in plain.parameters()] == [p.shape for p in residual.parameters()]


def test_a_patch_that_stands_still_keeps_its_token_and_slow_motion_is_not_missed():
    tokens = torch.tensor([[[1, 5], [2, 6], [3, 7], [4, 8]]])  # every frame another token
    step = 3 / 255
    first, second = torch.tensor([0.0, step, 2 * step, 3 * step]), torch.tensor([0.0, 1.0, 1.0, 1.0])
    patches = torch.stack([first, second], dim=-1)[None, :, :, None].expand(1, 4, 2, 12)
    # 3, 6 and 9 steps of 1 / 255 away from the frame in which the token was chosen: the third is too far.
    assert held(tokens, patches, 8 / 255).tolist() == [[[1, 5], [1, 6], [1, 6], [4, 6]]]
    assert held(tokens, patches, 2 / 255).tolist() == [[[1, 5], [2, 6], [3, 6], [4, 6]]]


def test_a_patch_shows_what_it_showed_while_its_token_stays_and_only_where_tokens_are_held():
    plain, holding = tiny.tokenizer(), tiny.tokenizer(hold_still=0)
    size, patch, count = holding.config.resolution, holding.config.patch_size, holding.config.num_tokens
    image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    shown = image + 9
    before = torch.arange(count)[None]
    now = before.clone()
    now[0, 1] = 0  # the second patch of the first row
    found = holding.hold_pixels(image, now, shown, before)
    assert not found[:, :patch, patch : 2 * patch].any()
    assert int((found == 0).sum()) == 3 * patch**2
    assert torch.equal(plain.hold_pixels(image, now, shown, before), image)


def test_holding_changes_tokens_of_still_patches_only():
    frames = tiny.pixel_batch()["frames"].float() / 255
    frames[:, :, :8] = frames[:, :1, :8]
    plain, holding = tiny.tokenizer(), tiny.tokenizer(hold_still=0)
    tokens = holding.encode(frames)
    still = tokens.view(*tokens.shape[:2], -1)[:, :, : tokens.shape[-1] // 2]
    assert torch.equal(still, still[:, :1].expand_as(still))
    moving = slice(tokens.shape[-1] // 2, None)
    assert torch.equal(tokens[..., moving], plain.encode(frames)[..., moving])
