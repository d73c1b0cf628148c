"""dvc.yaml with its templates filled in."""

import pytest

from whale.common.config import load_yaml
from whale.common.errors import ConfigError
from whale.pipeline_file import expand, nodes_of, position, upstream

DOCUMENT = {
    "stages": {
        "ingest": {
            "foreach": "${datasets}",
            "do": {"deps": ["pipelines/ingest.py", "${item.raw}"], "outs": ["out/${item.role}/shards/${key}"]},
        },
        "mix": {"deps": ["out/pretrain/shards"], "outs": ["out/mix"], "metrics": ["mix.json"]},
        "tune": {"deps": ["out/finetune/shards"], "outs": ["out/tuned"]},
    }
}
PARAMS = {"datasets": {"a": {"raw": "raw/a", "role": "pretrain"}, "b": {"raw": "raw/b", "role": "finetune"}}}


def test_each_item_is_a_node_with_its_paths_and_without_its_code():
    node = expand(DOCUMENT, PARAMS)[0]
    assert (node.name, node.reads, node.makes) == ("ingest@a", ("raw/a",), ("out/pretrain/shards/a",))


def test_a_stage_stands_below_those_that_make_what_lies_in_the_folder_it_reads():
    above = upstream(expand(DOCUMENT, PARAMS))
    assert above == {"ingest@a": [], "ingest@b": [], "mix": ["ingest@a"], "tune": ["ingest@b"]}


def test_a_template_without_a_value_names_itself():
    with pytest.raises(ConfigError, match="datasets"):
        expand(DOCUMENT, {})


def test_the_real_pipeline_expands_to_as_many_nodes_as_it_has_items(project_root):
    params = load_yaml(project_root / "profiles" / "whale-x.yaml")
    names = [node.name for node in expand(load_yaml(project_root / "dvc.yaml"), params)]
    assert len(names) == len(set(names))
    assert sum(name.startswith("ingest@") for name in names) == 28
    assert sum(name.startswith("embed_behavior@") for name in names) == 27
    assert {"train_dynamics@large", "finetune_dynamics@from_scratch", "report"} <= set(names)
    assert not [name for name in names if name.startswith("collect")]


def test_a_stage_knows_its_place_among_all_and_an_unknown_one_has_none(project_root, tmp_path):
    nodes = nodes_of(project_root)
    assert position(nodes[6].name, nodes) == (7, len(nodes)) and position("bogus", nodes) is None
    assert nodes_of(tmp_path) == []
