"""Configuration is strict, and every problem is reported at once."""

import pytest
from pydantic import Field

from whale.common.config import Config, load_yaml
from whale.common.errors import ConfigError
from whale.common.json_files import canonical_json


class Inner(Config):
    rate: float = Field(gt=0)


class Example(Config):
    steps: int = Field(gt=0)
    inner: Inner


def write(path, text):
    path.write_text(text)
    return path


def test_every_problem_is_reported_with_dotted_name_and_value(tmp_path):
    params = write(tmp_path / "params.yaml", "demo: {steps: 'many', inner: {rate: -1.0}, extra: 1}\n")
    with pytest.raises(ConfigError) as caught:
        Example.load("demo", params=params)
    text = str(caught.value)
    for part in ("demo.steps", "'many'", "demo.inner.rate", "-1.0", "demo.extra", str(params)):
        assert part in text


@pytest.mark.parametrize("value", ["1.5", "true", "'3'", "null"])
def test_nothing_is_coerced(tmp_path, value):
    params = write(tmp_path / "params.yaml", f"demo: {{steps: {value}, inner: {{rate: 1.0}}}}\n")
    with pytest.raises(ConfigError, match=r"demo\.steps"):
        Example.load("demo", params=params)


def test_a_missing_section_names_the_known_ones(tmp_path):
    params = write(tmp_path / "params.yaml", "other: {}\n")
    with pytest.raises(ConfigError, match="other"):
        Example.load("demo", params=params)


def test_an_item_is_looked_up_below_its_section(tmp_path):
    params = write(tmp_path / "params.yaml", "demo: {a: {steps: 1, inner: {rate: 2.0}}}\n")
    assert Example.load("demo", "a", params).inner.rate == 2.0


def test_the_digest_is_that_of_the_values_not_of_their_order(tmp_path):
    one = Example.parse({"steps": 1, "inner": {"rate": 2.0}}, file="a")
    two = Example.parse({"inner": {"rate": 2.0}, "steps": 1}, file="b")
    assert one.digest() == two.digest()
    assert one.digest() != Example.parse({"steps": 2, "inner": {"rate": 2.0}}, file="a").digest()


def test_canonical_json_refuses_what_has_no_canonical_form():
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_a_yaml_file_that_could_be_code_or_a_bomb_is_refused(tmp_path):
    for text in (
        "a: !!python/object/apply:os.system ['true']\n",
        "a: &a [" + "1," * 999 + "]\nb: [" + "*a, " * 999 + "]\n",
        "a: [\n",
    ):
        with pytest.raises(ConfigError):
            load_yaml(write(tmp_path / "x.yaml", text))


def test_a_yaml_file_that_is_no_text_is_named_with_the_place(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"seed: 0\nname: \xc3(\n")
    with pytest.raises(ConfigError, match=r"(?s)not UTF-8.*x\.yaml.*byte 14"):
        load_yaml(tmp_path / "x.yaml")
