from whale.reporting.dag import StageNode, arrows, draw, read_stages


def _stage(name, deps=(), outs=(), many=False):
    return StageNode(name, "", many, tuple(deps), tuple(outs))


def test_an_arrow_joins_an_out_and_a_dep_below_or_above_it_whatever_the_item(report_inputs):
    stages = read_stages(report_inputs.pipeline)
    assert [stage.name for stage in stages if stage.many] == ["ingest"]
    assert arrows(stages) == [("ingest", "mix"), ("mix", "train_tokenizer"), ("train_tokenizer", "report")]


def test_what_follows_from_a_longer_way_is_left_out():
    stages = [_stage("a", outs=["x"]), _stage("b", ["x"], ["y"]), _stage("c", ["x", "y"])]
    assert arrows(stages) == [("a", "b"), ("b", "c")]


def test_equal_beginnings_of_names_are_not_equal_paths():
    assert arrows([_stage("a", outs=["models/token"]), _stage("b", ["models/tokenizer"])]) == []


def test_every_stage_is_drawn_once(report_inputs):
    svg = draw(read_stages(report_inputs.pipeline))
    for name in ("ingest", "mix", "train_tokenizer", "report"):
        assert svg.count(f">{name}</text>") == 1


def test_names_are_filled_in_from_params(tmp_path):
    (tmp_path / "params.yaml").write_text(
        "profile: demo\ndatasets: {blocks: {raw: raw/fleet/blocks, role: pretrain}}\n"
    )
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  collect: {cmd: c, outs: [raw/fleet]}\n"
        "  ingest:\n"
        "    foreach: ${datasets}\n"
        "    do: {cmd: i, deps: ['${item.raw}'], outs: ['artifacts/${profile}/${item.role}/shards/${key}']}\n"
    )
    stages = read_stages(tmp_path / "dvc.yaml", tmp_path / "params.yaml")
    assert stages[1].outs == ("artifacts/demo/pretrain/shards/blocks",)
    assert arrows(stages) == [("collect", "ingest")]
