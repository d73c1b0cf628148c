"""Which stages may run at once: data stages that are out of date and wait for no other.

Training and evaluation take all devices, so they run alone.
"""

from collections.abc import Collection, Sequence

from whale.pipeline_file import Node, upstream

SIDE_BY_SIDE = ("collect", "collect_metaworld", "collect_rehearsal", "ingest", "pretokenize", "embed_behavior")


def next_wave(nodes: Sequence[Node], stale: Collection[str], ran: Collection[str]) -> list[Node]:
    """What can run now: data stages that wait for nothing, else what data stages wait for; nothing if none is left.

    ran: ended well already; what is still called stale after that is for `dvc repro` to explain.
    """
    above = _all_above(nodes)
    ready = [node for node in nodes if node.name in stale and not above[node.name] & set(stale)]
    ready = [node for node in ready if node.name not in ran]
    if together := [node for node in ready if node.stage in SIDE_BY_SIDE]:
        return together
    waiting = [node for node in nodes if node.stage in SIDE_BY_SIDE and above[node.name] & set(stale)]
    awaited = set().union(*(above[node.name] for node in waiting))
    return [node for node in ready if node.name in awaited][:1]


def _all_above(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """{node: every node that it depends on}; nodes stand below those they read from."""
    direct, found = upstream(nodes), dict[str, set[str]]()
    for node in nodes:
        parents = direct[node.name]
        found[node.name] = set(parents).union(*(found[name] for name in parents if name in found))
    return found
