"""Hours on stated hardware, and names of hardware."""

import pytest

from whale.common.errors import ConfigError
from whale.planning.hardware import default_hardware, parse_hardware

X_BASE_RUN = 330.5e12 * 300_000


@pytest.mark.parametrize(
    ("text", "count"), [("1x H200", 1), ("8x rtx 4090", 8), ("H200", 1), ("cpu", 2), ("16 x cpu", 16)]
)
def test_counts_and_names_are_read(text, count):
    assert parse_hardware(text).count == count


@pytest.mark.parametrize("text", ["H20", "0x H200", "", "x", "RTX 4099", "-1x cpu"])
def test_unknown_hardware_is_refused_and_the_nearest_or_all_are_named(text):
    with pytest.raises(ConfigError, match=r"h200|rtx 4090|cpu"):
        parse_hardware(text)


def test_hours_of_the_base_model_are_those_of_the_design_and_of_the_paper():
    assert parse_hardware("1x H200").hours(X_BASE_RUN) == pytest.approx(77, abs=1)
    assert parse_hardware("8x H200").hours(X_BASE_RUN) == pytest.approx(9.7, abs=0.1)
    assert parse_hardware("8x RTX 4090").hours(X_BASE_RUN) / 24 == pytest.approx(3, abs=0.1)  # P G: dynamics 3 days


def test_what_two_cores_do_within_a_day_is_planned_for_them():
    assert default_hardware(1e15).device.name == "cpu core"
    assert default_hardware(1e18).device.name == "RTX 4090"


def test_the_hardware_is_stated_with_its_peak_and_its_share():
    assert str(parse_hardware("8x RTX 4090")).startswith("8x RTX 4090, 165 TFLOP/s each, 29% of it used")
