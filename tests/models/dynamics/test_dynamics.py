import math

import pytest
import tiny_models as tiny
import torch

from whale.models.dynamics.dynamics import DynamicsConfig


def test_the_loss_at_initialisation_is_near_ln_of_the_number_of_codes():
    loss, _ = tiny.dynamics()(tiny.token_batch(size=16))
    assert abs(loss.item() - math.log(tiny.NUM_CODES)) < 0.25


VARIANTS = [{}, {"action_mode": "prepend"}, {"sampler": "maskgit"}]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_row_h_depends_on_tokens_actions_and_z_up_to_h_only(changes):
    model, batch = tiny.dynamics(**changes), tiny.token_batch()
    inputs = [batch["tokens"][:, : tiny.WINDOW], batch["action"], torch.randn(3, tiny.WINDOW, 256)]
    logits = model.logits(*inputs)
    for place, change in enumerate([lambda x: (x + 1) % tiny.NUM_CODES, lambda x: x + 1, lambda x: x + 1]):
        other = [value.clone() for value in inputs]
        other[place][:, 2:] = change(other[place][:, 2:])
        changed = model.logits(*other)
        torch.testing.assert_close(changed[:, :2], logits[:, :2], rtol=0, atol=1e-6)
        assert (changed[:, 2] - logits[:, 2]).abs().max() > 1e-4


def test_without_behavior_conditioning_the_logits_ignore_z():
    model, batch = tiny.dynamics(behavior_conditioning=False), tiny.token_batch()
    tokens = batch["tokens"][:, : tiny.WINDOW]
    one, other = (model.logits(tokens, batch["action"], torch.randn(3, tiny.WINDOW, 256)) for _ in range(2))
    assert torch.equal(one, other)


def test_the_copy_bias_raises_the_logit_of_the_current_token_and_no_other():
    plain, biased = tiny.dynamics(), tiny.dynamics(copy_bias=8.0)
    biased.load_state_dict(plain.state_dict() | {"copy_bias": torch.tensor(8.0)})
    tokens, z = tiny.token_batch()["tokens"][:, :4], torch.zeros(3, 4, 256)
    actions = torch.zeros(3, 4, 7)
    raised = biased.logits(tokens, actions, z) - plain.logits(tokens, actions, z)
    expected = torch.zeros_like(raised).scatter_(-1, tokens[..., None], 8.0)
    torch.testing.assert_close(raised, expected, atol=1e-5, rtol=0)


def test_targets_after_an_invalid_action_or_the_end_do_not_count():
    model, batch = tiny.dynamics(), tiny.token_batch()
    batch["num_frames"] = torch.tensor([5, 3, 2])
    batch["action_valid"][0, 3] = False
    loss = model(batch)[0]
    batch["tokens"][0, 4], batch["tokens"][1, 3:], batch["tokens"][2, 2:] = 0, 0, 0
    torch.testing.assert_close(model(batch)[0], loss)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_one_batch_can_be_overfitted(changes):
    model, batch = tiny.dynamics(**changes), tiny.token_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(batch)[0].backward()
        optimizer.step()
    assert model(batch)[0].item() < 0.5


def test_z_as_probabilities_is_not_drawn_and_is_the_same_in_training_and_rollout():
    drawn, given = tiny.dynamics(), tiny.dynamics(z_input="probabilities")
    batch, other = tiny.token_batch(), tiny.token_batch()
    other["uniform"] = 1 - other["uniform"]
    with torch.no_grad():
        assert torch.equal(given(batch)[0], given(other)[0]) and not torch.equal(drawn(batch)[0], drawn(other)[0])
    z = given.inferred_z(batch["z_log_probs"])
    torch.testing.assert_close(z.unflatten(-1, (16, 16)).sum(-1), torch.ones(3, tiny.WINDOW, 16))
    assert torch.equal(z, batch["z_log_probs"].exp().flatten(2))
    assert set(drawn.inferred_z(batch["z_log_probs"]).unique().tolist()) == {0.0, 1.0}


def test_a_config_that_draws_z_is_written_as_before_there_was_a_choice():
    assert "z_input" not in tiny.dynamics().config.model_dump(mode="json")
    config = tiny.dynamics(z_input="probabilities").config
    assert DynamicsConfig.parse(config.model_dump(mode="json"), file="config.json") == config
