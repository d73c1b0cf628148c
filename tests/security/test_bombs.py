# ruff: noqa: E501  lists of inputs
"""S6, S10, S1m, S20: what grows when it is read is refused with little memory and in little time, by name."""

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
from limited import run_limited

from whale.common.errors import ConfigError, WhaleError
from whale.common.json_files import parse_json
from whale.common.limits import JSON_BYTES, NESTING, YAML_BYTES
from whale.common.yaml_text import parse_yaml

LAUGHS = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))])
MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10))]
)
YAML = {
    "deep list": "[" * 500_000, "deep mapping": "{" * 500_000, "deep blocks": "- " * 500_000, "deep keys": "? " * 500_000,
    "aliases of aliases": LAUGHS, "merges of merges": MERGES, "an alias of itself": "a: &a [*a]",
    "5,000 digits": "a: " + "1" * 5000, "hexadecimal digits": "a: 0x" + "f" * 50_000, "base 60": "a: " + "1:" * 50_000 + "1",
    "no integer": "a: !!int abc", "no float": "a: !!float abc", "no boolean": "a: !!bool maybe", "a set": "a: !!set {x}",
    "bytes": "a: !!binary aaaa", "ordered pairs": "a: !!omap [x: 1]", "python": "a: !!python/name:os.system",
    "python call": "a: !!python/object/apply:os.system ['touch ran']", "own tag": "a: !x 1", "a list as key": "? [a]\n: 1",
    "NUL": 'a: "\0"', "half a surrogate pair": 'a: "\\ud800"', "two documents": "a: 1\n---\nb: 1", "no UTF-8": b"a: \xff",
    "merge of text": "a: {<<: x}", "too many values": "a: [" + "1," * 250_000 + "]", "too long": "a" * (YAML_BYTES + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_is_no_plain_small_document_is_refused(name):
    with pytest.raises(ConfigError, match=r"(?s)file: +f"):
        parse_yaml(YAML[name], "f")


def test_yaml_bombs_take_neither_time_nor_memory():
    said = run_limited(
        "import test_bombs\nfrom whale.common.yaml_text import parse_yaml",
        "\n    ".join([
            "for text in test_bombs.YAML.values():", "    try:", "        parse_yaml(text, 'f')",
            "    except WhaleError as error:", "        assert len(str(error)) < 5000", "print('all refused')",
        ]), memory=128 << 20,
    )  # fmt: skip
    assert said == "all refused\n"


def test_dates_stay_text_and_depth_has_room():
    assert parse_yaml("a: 2026-13-45\nb: 2026-12-01", "f") == {"a": "2026-13-45", "b": "2026-12-01"}
    depth = NESTING - 1
    assert parse_yaml("[" * depth + "]" * depth, "f")


JSON = {
    "deep": "[" * 100_000, "deep objects": '{"a":' * 100_000, "cut": '{"a": 1', "NUL": "\0", "no UTF-8": b'"\xff"',
    "half a surrogate pair": '"\\ud800"', "as a key": '{"\\udfff": 1}', "5,000 digits": "1" * 5000, "empty": "",
    "two": "{}{}", "too many values": "[" + "[]," * 4_000_000 + "1]", "too long": " " * (JSON_BYTES + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_json_that_is_no_plain_small_document_is_refused(name):
    with pytest.raises(WhaleError, match=r"(?s)file: +f"):
        parse_json(JSON[name], "f")


def test_an_error_shows_little_of_what_it_found_whatever_its_size(tmp_path):
    (tmp_path / "params.yaml").write_text("mix: " + "[" * 60 + "1," * 100_000 + "]" * 60)
    with pytest.raises(ConfigError) as caught:
        from whale.data.mixture import MixConfig

        MixConfig.load("mix", params=tmp_path / "params.yaml")
    assert len(str(caught.value)) < 2000


SOURCES = "from pathlib import Path\nfrom whale.data.ingest.sources import npz, rlds\n"
SOURCES += "from whale.data.ingest.sources.opening import open_source"


def npy(shape: str, body: bytes = b"", descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


NPY = {
    "2 to the 70": npy(f"({2**70},)"), "a trillion": npy("(1000000000000,)"), "product": npy("(100000, 100000, 100000)"),
    "negative": npy("(-1,)"), "nothing of endless": npy("(1000000000000, 0)"), "no size": npy("(1000000000,)", descr="'<U0'"),
    "pickle": npy("(1,)", b"cos\nsystem\n(S'touch ran'\ntR.", "'|O'"), "fields": npy("(1,)", b"0" * 8, "[('a', '<f8')]"),
    "many dimensions": npy("(" + "1," * 30 + ")", b"0000"), "cut": npy("(4,)", b"0" * 15), "longer": npy("(4,)", b"0" * 17),
    "code for a header": npy("__import__('os').system('touch ran')"), "no dtype": npy("(4,)", b"0" * 16, "'x'"),
    "zip": b"PK\x03\x04" + b"0" * 64, "version 9": b"\x93NUMPY\x09\x00" + b"0" * 64, "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", NPY)
def test_an_array_that_promises_more_than_its_bytes_reserves_nothing(tmp_path, name):
    (tmp_path / "a.npy").write_bytes(NPY[name])
    said = run_limited(
        "from pathlib import Path\nfrom whale.data.storage.shards import parse_array",
        "parse_array(Path('a.npy').read_bytes(), 'a.npy', 'a')", memory=64 << 20, cwd=tmp_path,
    )  # fmt: skip
    assert "BadDataError" in said and "a.npy" in said and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["one large", "many", "list of a million"])
def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path, kind):
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw/a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "list of a million":
            for number in range(30_000):
                archive.writestr(f"{number:070}.npy", b"")
        for number in range(1 if kind == "one large" else 20):
            size = 2**28 if kind == "one large" else 2**24
            if kind != "list of a million":
                with archive.open(f"a{number}.npy", "w") as stream:
                    stream.write(npy(f"({size // 4},)"))
                    for _ in range(size >> 24):
                        stream.write(bytes(1 << 24))
    said = run_limited(SOURCES,
                       "sorted(open_source('npz', Path('raw'), 'x', '1.0.0').features)", cwd=tmp_path)  # fmt: skip
    assert "BadDataError" in said and "a.npz" in said


def test_compressed_tensors_of_a_record_have_a_limit_of_ours(tmp_path):
    """The shape that bounds them is the attacker's own."""
    import rlds_fixture as fixture

    bomb = zlib.compress(bytes(2**28), 9)
    tree = fixture.feature_tree()
    steps = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    steps["cloud"] = fixture._tensor(str(2**28), dtype="uint8", encoding="zlib")
    episode = fixture.episodes([4])[0] | {"steps/cloud": [bomb] * 4}
    fixture.write_rlds(tmp_path, {"train": [[episode]]}, tree=tree)
    said = run_limited(
        SOURCES,
        "print(*(each.reason for each in open_source('rlds', Path('tiny/1.0.0'), 'tiny', '1.0.0').read_shard('train', 0)))",
        cwd=tmp_path,
    )  # fmt: skip
    assert said == "unsafe\n"


CONFIGS = {
    "width": {"d_model": 2**40}, "width within a limit": {"d_model": 131_072}, "layers": {"num_layers": 10**9},
    "layers within a limit": {"num_layers": 1000}, "heads": {"num_heads": 10**8}, "text": {"d_model": "32"},
    "no number": {"d_model": 1e300}, "bits": {"d_model": 10**300},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_compared_with_the_weights_before_a_model_is_built(tmp_path, name):
    import tiny_models

    from whale.models.trunk.folder import save_model

    save_model(tmp_path, tiny_models.dynamics())
    about = json.loads((tmp_path / "config.json").read_text())
    about["config"]["trunk"] |= CONFIGS[name]
    (tmp_path / "config.json").write_text(json.dumps(about))
    said = run_limited("from whale.models.dynamics.dynamics import Dynamics\nfrom pathlib import Path",
                       "Dynamics.restore(Path('.'))", cwd=tmp_path, seconds=20)  # fmt: skip
    assert said.startswith("BadDataError") and ("config.json" in said or "model.safetensors" in said), said


WEIGHTS = {
    "empty": b"", "short": b"\0\0", "endless header": struct.pack("<Q", 2**60) + b"{}", "no JSON": struct.pack("<Q", 4) + b"[[[[",
    "a list": struct.pack("<Q", 2) + b"[]", "no shape": struct.pack("<Q", 9) + b'{"a": {}}',
    "outside": struct.pack("<Q", 62) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999]}}  ',
    "pickle": b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.",
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_no_safetensors_are_refused(tmp_path, name):
    from whale.models.trunk.folder import load_tensors

    (tmp_path / "w.safetensors").write_bytes(WEIGHTS[name])
    with pytest.raises(WhaleError, match=r"w\.safetensors"):
        load_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("field", ["repeated text", "too many rows"])
def test_a_table_that_unpacks_to_gigabytes_is_refused(tmp_path, field):
    """A dictionary makes one long text a million; the footer's own sizes say otherwise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    if field == "repeated text":
        values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300_000, np.int32)), pa.array(["x" * 60_000]))
    else:
        values = pa.array(np.zeros(40_000_000, np.uint8))
    pq.write_table(pa.table({"text": values}), stream, compression="zstd", store_schema=False)
    (tmp_path / "a.parquet").write_bytes(stream.getvalue())
    assert (tmp_path / "a.parquet").stat().st_size < 2**24
    said = run_limited("from whale.data.ingest.sources.columns import read_columns\nfrom pathlib import Path",
                       "read_columns(Path('a.parquet')); print('read')", cwd=tmp_path, memory=3 << 30, seconds=60)  # fmt: skip
    assert "BadDataError" in said and "a.parquet" in said
