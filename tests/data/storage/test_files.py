"""A listing is the canonical JSON of its value, with line breaks that follow from the value alone."""

import json

from whale.common.json_files import canonical_json
from whale.data.storage.files import write_listing

VALUE = {
    "shards": [{"file": "b", "crc": [1, 2]}, {"file": "a"}],
    "files": {"z": 1, "x": {"y": 2}},
    "dropped": {},
    "n": 1.5,
}
TEXT = """{
 "dropped":{},
 "files":{
  "x":{"y":2},
  "z":1
 },
 "n":1.5,
 "shards":[
  {"crc":[1,2],"file":"b"},
  {"file":"a"}
 ]
}
"""


def test_a_listing_has_one_entry_a_line_and_is_canonical_without_them(tmp_path):
    write_listing(tmp_path / "manifest.json", VALUE)
    text = (tmp_path / "manifest.json").read_text()
    assert text == TEXT and json.loads(text) == VALUE
    assert "".join(line.strip() for line in text.splitlines()) == canonical_json(VALUE)
