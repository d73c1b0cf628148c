"""Every format: a few mutants in `make test`, many in `make nightly`, and each that once failed for ever."""

import importlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

mutants = importlib.import_module("mutants")
FAILURES = {"traceback", "crash", "hang", "executed"}


@pytest.mark.parametrize("name", mutants.FORMATS)
def test_no_mutant_ends_in_anything_but_a_named_error(name):
    tally = mutants.run(name, 12, seed=7)
    assert not FAILURES & set(tally.outcomes), tally.failures
    assert tally.outcomes.total() == 12 and tally.most_memory <= 1 << 30


@pytest.mark.nightly
@pytest.mark.parametrize("name", mutants.FORMATS)
def test_no_mutant_of_many_ends_in_anything_but_a_named_error(name):
    tally = mutants.run(name, 200, seed=11)
    assert not FAILURES & set(tally.outcomes), tally.failures


CASES = dict(mutants.cases())


@pytest.mark.parametrize("case", CASES)
def test_what_once_failed_is_refused_or_read(tmp_path, case):
    row = CASES[case]
    (tmp_path / "sample").mkdir()
    mutants.FORMATS[row["format"]].make(tmp_path / "sample")
    said = mutants.try_one(row["format"], tmp_path / "sample", tmp_path, row["file"], row["edits"], row["resealed"])
    assert said in ("read", "refused"), said


def test_a_reader_that_runs_reserves_or_breaks_is_noticed(tmp_path, monkeypatch):
    """The net has no hole: each kind of failure is counted as one."""
    broken = {
        "traceback": lambda folder: {}["x"], "crash": lambda folder: __import__("os").abort(),
        "executed": lambda folder: __import__("subprocess").run(["true"], check=True),
    }  # fmt: skip

    def make(folder):
        (folder / "a").write_bytes(b"sample")

    for kind, read in broken.items():

        def spoilt(folder, read=read):
            if (folder / "a").read_bytes() != b"sample":
                read(folder)

        monkeypatch.setitem(mutants.FORMATS, kind, mutants.Format(make, spoilt, ("a",)))
        assert set(mutants.run(kind, 2, seed=0).outcomes) == {kind}


TEXT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=20,
)  # fmt: skip
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def is_refused_or_read(read, *arguments):
    from whale.common.errors import WhaleError

    try:
        read(*arguments)
    except WhaleError as error:
        assert error.file and "\x1b" not in str(error)


@FUZZ
@given(st.text() | st.text(st.sampled_from("[]{}:,-&*!|>?'\"\n #a1<~.")))
def test_any_text_as_yaml(text):
    from whale.common.yaml_text import parse_yaml

    is_refused_or_read(parse_yaml, text, "f")


@FUZZ
@given(st.binary() | st.text(st.sampled_from('[]{}:,"\\u0dftn1e- ')).map(str.encode))
def test_any_bytes_as_json(data):
    from whale.common.json_files import parse_json

    is_refused_or_read(parse_json, data, "f")


@FUZZ
@given(TEXT, st.sampled_from(["spec", "params", "info.json", "features.json", "dataset_info.json", "manifest.json"]))
def test_any_plain_values_in_the_place_of_a_schema(tmp_path_factory, values, kind):
    import json

    import yaml

    from whale.data.ingest.sources.features import parse_features
    from whale.data.ingest.sources.opening import open_source
    from whale.data.spec.spec import load_spec
    from whale.data.storage.shards import ShardSet
    from whale.planning.profile import load_profile

    folder = tmp_path_factory.mktemp("x")
    if kind in ("spec", "params"):
        (folder / "x.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
        is_refused_or_read(*((load_spec, "x", folder) if kind == "spec" else (load_profile, folder / "x.yaml")))
        return
    path = folder / ("meta/info.json" if kind == "info.json" else kind)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))
    if kind == "features.json":
        is_refused_or_read(parse_features, values, "features.json")
    elif kind == "manifest.json":
        is_refused_or_read(ShardSet.open, folder)
    else:
        is_refused_or_read(open_source, "lerobot" if kind == "info.json" else "rlds", folder, "x", "1.0.0")


@FUZZ
@given(st.binary(max_size=400))
def test_any_bytes_as_a_record(data):
    from whale.data.ingest.sources.tf_example import ExampleError, parse_example

    try:
        parse_example(data)
    except ExampleError:
        return


@FUZZ
@given(st.binary(max_size=300).map(lambda body: b"\x93NUMPY\x01\x00" + body) | st.binary(max_size=200))
def test_any_bytes_as_an_array(data):
    from whale.data.storage.shards import parse_array

    is_refused_or_read(parse_array, data, "f", "a")


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_as_a_message(data):
    from whale.policies.messages import unpack

    is_refused_or_read(unpack, data, "ws://127.0.0.1:1")
