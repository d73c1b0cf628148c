import pytest

from whale.common.errors import ConfigError
from whale.runtime.train.training_stage import replayed_step


def test_the_step_to_look_at_again_is_a_number():
    assert replayed_step({}) is None and replayed_step({"WHALE_REPLAY_STEP": "0"}) == 0
    assert replayed_step({"WHALE_REPLAY_UNTIL": "4"}, "WHALE_REPLAY_UNTIL") == 4


@pytest.mark.parametrize("text", ["<step>", "5.0", "-1"])
def test_any_other_step_is_a_wrong_setting(text):
    with pytest.raises(ConfigError, match="WHALE_REPLAY_STEP"):
        replayed_step({"WHALE_REPLAY_STEP": text})
