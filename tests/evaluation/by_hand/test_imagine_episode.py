"""One episode imagined on request: addresses, bounds, and the same frames as the plain rollout gives."""

from pathlib import Path

import numpy as np
import pytest

from whale.cli import run
from whale.common.errors import ConfigError, MissingInputError
from whale.evaluation.by_hand.imagine_episode import EpisodeAddress, Options, data_folder, imagine_episode
from whale.evaluation.measuring.rollouts.imagination import predictor

FIRST = EpisodeAddress("blocks", "train", 0)


def test_an_address_has_three_parts():
    assert EpisodeAddress.parse("blocks/train/0") == FIRST
    for text in ("blocks/train", "blocks/train/first", "blocks/train/-1", "a/b/c/0"):
        with pytest.raises(ConfigError, match="not an episode"):
            EpisodeAddress.parse(text)


def test_fine_tuned_models_look_for_the_fine_tuning_data():
    assert data_folder(Path("artifacts/demo/models")) == Path("artifacts/demo/data/pretrain")
    assert data_folder(Path("artifacts/demo/models/finetuned")) == Path("artifacts/demo/data/finetune")


def test_it_imagines_to_the_episodes_end_what_the_rollout_of_the_same_model_imagines(
    models_dir, role_dir, stack, dataset
):
    found = imagine_episode(models_dir / "dynamics" / "full", role_dir, FIRST, Options(context=2))
    row = dataset.shards.episodes("train")[0]
    recorded = dataset.shards.read_frames(row, 0, row.num_steps)
    np.testing.assert_array_equal(found.recorded, recorded)
    actions = dataset.shards.read_arrays(row)["action"][None, : row.num_steps - 1]
    predict = predictor(stack.world("full", dataset), batch_size=1)
    expected = predict(recorded[None, :2], actions, row.num_steps - 2)[0]
    np.testing.assert_array_equal(found.imagined[1.0], expected)


def test_a_seed_draws_the_same_frames_again_and_another_one_others(models_dir, role_dir):
    def imagined(seed: int) -> np.ndarray:
        options = Options(horizon=4, temperature=1.0, seed=seed)
        return imagine_episode(models_dir / "dynamics" / "full", role_dir, FIRST, options).imagined[1.0]

    np.testing.assert_array_equal(imagined(3), imagined(3))
    assert (imagined(3) != imagined(4)).any()


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        (EpisodeAddress("blocks", "train", 6), Options(), "no such episode"),
        (EpisodeAddress("blocks", "test", 0), Options(), "no such episode"),
        (FIRST, Options(horizon=9), "does not hold as many frames"),
        (FIRST, Options(context=9), "does not hold as many frames"),
    ],
)
def test_what_the_data_do_not_hold_is_refused(models_dir, role_dir, address, options, message):
    with pytest.raises(ConfigError, match=message):
        imagine_episode(models_dir / "dynamics" / "full", role_dir, address, options)


def test_a_folder_that_is_no_dynamics_model_is_refused(models_dir, role_dir):
    with pytest.raises(MissingInputError, match="beside its tokenizer"):
        imagine_episode(models_dir / "tokenizer", role_dir, FIRST, Options())


def test_the_command_writes_one_moving_picture_with_a_column_per_factor(models_dir, role_dir, tmp_path, capsys):
    out = tmp_path / "rollout.gif"
    command = ["rollout", str(models_dir / "dynamics" / "full"), "--data", str(role_dir), "--episode", "blocks/train/0"]
    assert run([*command, "--scale-actions", "0.8", "--scale-actions", "1.2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "x0.8" in printed and "x1.2" in printed and str(out) in printed
    payload = out.read_bytes()
    width = int.from_bytes(payload[6:8], "little")
    num_columns = 4  # recorded, both factors and 1; gaps of 2, doubled
    assert payload[:6] == b"GIF89a" and width == 2 * (num_columns * 16 + (num_columns - 1) * 2)
