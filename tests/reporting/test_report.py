import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from whale.common.errors import ConfigError, MissingInputError
from whale.reporting.measured import group_mean
from whale.reporting.report import build_report

VOID = {"meta", "img", "br", "line", "rect", "circle", "path", "link"}


class _Checker(HTMLParser):
    """Collects what a page would fetch, and whether every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.links, self.problems = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in {"script", "iframe", "object", "link"}:
            self.problems.append(tag)
        self.fetched += [values[name] for name in ("src", "action", "poster") if values.get(name)]
        self.links += [values["href"]] if values.get("href") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")


@pytest.fixture(scope="module")
def report(report_inputs):
    return build_report(report_inputs)


def test_equal_inputs_in_another_folder_give_equal_bytes(report, report_inputs, tmp_path):
    copy = {}
    for name, path in vars(report_inputs).items():
        target = tmp_path / path.name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, target)
        copy[name] = target
    assert build_report(type(report_inputs)(**copy)) == report


def test_the_page_fetches_nothing_and_every_element_is_closed(report):
    checker = _Checker()
    checker.feed(report.html)
    assert checker.fetched and all(link.startswith("data:image/") for link in checker.fetched)
    assert all(link.startswith(("../", "#")) for link in checker.links)
    assert checker.problems == [] and checker.open == []


def test_text_of_the_data_is_escaped(report):
    assert "<safe>" not in report.html and "shards &lt;safe&gt;" in report.html
    assert "<b>&-val" not in report.html and "&lt;b&gt;&amp;-val" in report.html


def test_the_page_holds_no_path_of_the_machine(report, report_inputs):
    assert str(report_inputs.models.parent) not in report.html


def test_every_part_the_issue_asks_for_is_there(report):
    for title in ("Imagination", "Comparisons", "Numbers", "Uncertainty", "Data", "Training", "Pipeline", "Lineage"):
        assert f"<h2>{title}</h2>" in report.html
    for wanted in ("finetuned/dynamics/full", "28.8", "not comparable", "train_tokenizer", "image/gif"):
        assert wanted in report.html


def test_links_to_documents_lead_somewhere(report, project_root):
    for name in re.findall(r'href="\.\./\.\./\.\./([^"]+)"', report.html):
        assert (project_root / name).is_file(), name


def test_words_about_given_frames_are_those_of_the_pictures(report):
    assert "sees 4 recorded frames" in report.html and "Frame by frame, from 1 frame<" in report.html


def test_a_model_that_was_not_trained_is_named_and_has_no_card(report):
    assert "not trained: dynamics/untrained." in report.html and "<h3>dynamics/untrained" not in report.html


def test_what_datasets_use_of_the_codebook_together_is_a_line_not_a_column(report):
    assert "all datasets together: 900 of 1024 codes used, perplexity 301.2" in report.html
    assert "codebook codes_used" not in report.html and "codebook perplexity" not in report.html


def test_what_was_not_measured_is_a_dash_and_never_zero(report):
    words = re.sub(r"data:image/[^\"]*", "", report.html)
    assert "\u2013" in words and not re.search(r"\bnan\b", words)


def test_numbers_of_unlike_protocols_are_not_averaged(report_inputs):
    numbers = json.loads((report_inputs.metrics / "evaluate_video.json").read_text())
    assert group_mean(numbers, "pretrain", "tokenizer.psnr") == pytest.approx(28.914)
    key = "pretrain.cups.val.tokenizer.protocol"
    fewer = numbers | {key: numbers[key].replace("|model=", "|windows=3|model=")}  # a small dataset
    assert group_mean(fewer, "pretrain", "tokenizer.psnr") == pytest.approx(28.914)
    with pytest.raises(ConfigError, match="unlike protocols"):
        group_mean(
            numbers | {key: numbers[key].replace("resolution=32", "resolution=64")}, "pretrain", "tokenizer.psnr"
        )


def test_missing_metrics_name_the_file_and_the_remedy(report_inputs, tmp_path):
    with pytest.raises(MissingInputError, match=r"evaluate_video\.json[\s\S]*dvc repro"):
        build_report(type(report_inputs)(**(vars(report_inputs) | {"metrics": tmp_path})))


def test_without_fine_tuning_the_page_speaks_of_the_pretraining_robots_alone(report_inputs, tmp_path):
    for name in ("models", "data", "mix", "evaluation", "metrics"):
        shutil.copytree(getattr(report_inputs, name), tmp_path / name)
    for gone in ("models/finetuned", "data/finetune"):
        shutil.rmtree(tmp_path / gone)
    for path in (tmp_path / "evaluation").rglob("finetune.*"):
        path.unlink()
    for path in (tmp_path / "metrics").glob("*.json"):
        kept = {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("finetune.")}
        path.write_text(json.dumps(kept))
    places = {name: tmp_path / name for name in ("models", "data", "mix", "evaluation", "metrics")}
    both, one = build_report(report_inputs), build_report(dataclasses.replace(report_inputs, **places))
    assert "The unseen robot" in both.html and "The unseen robot" not in one.html
    assert "Pre-training robots" in one.html


def test_values_stand_beside_the_paper_and_a_model_that_is_too_weak_is_said_to_be(report_inputs, tmp_path):
    at = "pretrain.blocks.val.mean.full"
    values = {f"{at}.h64.value_gap": 21.25, f"{at}.h64.spearman": 0.414, f"{at}.protocol": "metric=values|model=0123"}
    for status, said in (("measured", "nor unit of its reward"), ("model too weak: it guesses", "it guesses")):
        shutil.copytree(report_inputs.metrics, tmp_path / status)
        (tmp_path / status / "evaluate_values.json").write_text(json.dumps(values | {f"{at}.status": status}))
        page = build_report(dataclasses.replace(report_inputs, metrics=tmp_path / status)).html
        assert "value gap, horizon 64" in page and "21.2" in page and "0.41" in page and said in page
    assert "nor unit of its reward" not in build_report(report_inputs).html
