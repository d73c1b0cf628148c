import pytest

from whale.common.errors import ConfigError
from whale.evaluation.numbers.protocol import protocol, require_comparable


def test_two_models_measured_alike_are_comparable():
    require_comparable(protocol("psnr", model="a", c=1, horizon=8), protocol("psnr", model="b", horizon=8, c=1))


@pytest.mark.parametrize(
    "other",
    [protocol("ssim", model="a", c=1), protocol("psnr", model="a", c=4), protocol("psnr", model="a", c=1, seed=0)],
)
def test_unlike_protocols_are_refused_by_name_of_what_differs(other):
    with pytest.raises(ConfigError, match="unlike protocols"):
        require_comparable(protocol("psnr", model="a", c=1), other)


def test_how_a_model_was_run_is_its_own_affair_and_stands_behind_its_name():
    drawn, own = (protocol("psnr", model="a", c=1, run_with=how) for how in ({"decoding": "sample"}, None))
    assert drawn == "metric=psnr|c=1|model=a|decoding=sample"
    require_comparable(drawn, own)
    with pytest.raises(ConfigError, match="decoding"):
        require_comparable(protocol("u", model="a", decoding="sample"), protocol("u", model="a", decoding="argmax"))


def test_a_value_with_a_separator_is_refused():
    with pytest.raises(ConfigError, match="separator"):
        protocol("psnr", model="a", data="x|y")
