import json

import pytest
from rlds_fixture import episodes, write_rlds

from whale.common.errors import BadDataError, MismatchError, MissingInputError
from whale.data.ingest.sources.location import describe_source, locate


def write(tmp_path):
    return write_rlds(tmp_path / "raw" / "tiny", {"train": [episodes([3])]})


def describe(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(describe_source(tmp_path / "raw" / "tiny", "tiny")))
    return path


def test_version_folder_dataset_folder_and_parent_all_lead_to_the_same_place(tmp_path):
    directory = write(tmp_path)
    for raw in (directory, directory.parent, directory.parent.parent):
        assert locate(raw, "tiny", "1.0.0").directory == directory


def test_a_description_leads_through_the_link_and_promises_every_file(tmp_path):
    directory = write(tmp_path)
    location = locate(describe(tmp_path), "tiny", "1.0.0", links=tmp_path)
    assert location.directory == directory
    assert set(location.expected) == {path.name for path in directory.iterdir()}


def test_changed_bytes_behind_a_link_are_refused(tmp_path):
    directory = write(tmp_path)
    description = describe(tmp_path)
    location = locate(description, "tiny", "1.0.0", links=tmp_path)
    with pytest.raises(MismatchError, match="not the described one"):
        location.check_sha256("features.json", "0" * 64)
    (directory / "features.json").write_text("{}")
    with pytest.raises(MismatchError, match=r"features\.json"):
        locate(description, "tiny", "1.0.0", links=tmp_path)


def test_what_is_missing_is_named_with_the_next_command(tmp_path):
    with pytest.raises(MissingInputError, match="whale data link"):
        locate(tmp_path / "nowhere", "tiny", "1.0.0")
    write(tmp_path)
    with pytest.raises(MissingInputError, match="whale data link tiny"):
        locate(describe(tmp_path), "tiny", "1.0.0", links=tmp_path / "elsewhere")


def test_a_description_can_not_name_files_outside(tmp_path):
    write(tmp_path)
    description = json.loads(describe(tmp_path).read_text())
    description["files"][0]["path"] = "../../etc/passwd"
    (tmp_path / "tiny.json").write_text(json.dumps(description))
    with pytest.raises(BadDataError, match="unsafe"):
        locate(tmp_path / "tiny.json", "tiny", "1.0.0", links=tmp_path)
