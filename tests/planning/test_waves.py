"""Which stages go side by side, and in which order."""

from whale.pipeline_file import Node
from whale.planning.waves import next_wave

NODES = [
    Node("ingest", "a", (), ("shards/a",)),
    Node("ingest", "b", (), ("shards/b",)),
    Node("train_tokenizer", None, ("shards",), ("tokenizer",)),
    Node("train_reward", None, ("shards",), ("reward",)),
    Node("pretokenize", "a", ("shards/a", "tokenizer"), ("tokens/a",)),
    Node("report", None, ("tokens",), ("page",)),
]


def wave(stale, ran=()):
    return [node.name for node in next_wave(NODES, set(stale), set(ran))]


def test_a_wave_is_data_stages_that_wait_for_nothing_else_the_one_stage_that_they_wait_for():
    everything = {node.name for node in NODES}
    assert wave(everything) == ["ingest@a", "ingest@b"]
    assert wave(everything - {"ingest@a", "ingest@b"}) == ["train_tokenizer"]
    assert wave({"train_tokenizer"}) == ["train_tokenizer"]  # what follows it may become stale
    assert wave({"pretokenize@a", "train_reward"}) == ["pretokenize@a"]
    assert wave({"train_reward", "report"}) == []  # no data stage waits: `dvc repro` does the rest


def test_what_ran_and_is_stale_nevertheless_is_left_to_dvc():
    assert wave({"ingest@a"}, {"ingest@a"}) == []
