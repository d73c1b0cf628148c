import re

import pytest

from whale.common.errors import ConfigError
from whale.pipeline_file import outline
from whale.reporting.pipeline_section import layers, pipeline_section, without_detours


def test_every_stage_stands_once_with_its_items_and_what_it_comes_after(report_inputs):
    html = pipeline_section(report_inputs.pipeline, report_inputs.params).body
    assert re.findall(r"<b>(\w+)</b>", html) == ["ingest", "mix", "train_tokenizer", "report"]
    assert re.findall(r'href="#stage-(\w+)"', html) == ["ingest", "mix", "train_tokenizer"]
    assert "for each of 2: blocks, cups" in html


def test_the_outline_gives_the_same_picture_as_dvc_yaml(report_inputs, tmp_path):
    (tmp_path / "pipeline.yaml").write_text(outline(report_inputs.pipeline))
    drawn = pipeline_section(tmp_path / "pipeline.yaml", report_inputs.params)
    assert drawn == pipeline_section(report_inputs.pipeline, report_inputs.params)


def test_what_follows_from_a_longer_way_is_left_out():
    assert without_detours({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == {"a": set(), "b": {"a"}, "c": {"b"}}


def test_a_stage_stands_below_all_that_it_reads():
    assert layers({"a": set(), "b": {"a"}, "c": {"a"}, "d": {"c", "a"}}) == [{"a"}, {"b", "c"}, {"d"}]


def test_a_name_that_params_lacks_is_an_error_and_not_a_gap(report_inputs, tmp_path):
    (tmp_path / "params.yaml").write_text("profile: demo\n")
    with pytest.raises(ConfigError, match="datasets"):
        pipeline_section(report_inputs.pipeline, tmp_path / "params.yaml")
