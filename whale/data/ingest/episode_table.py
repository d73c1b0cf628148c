"""The episode table that outlives its dataset: who came in, who stayed, and why not (one row per SOURCE episode).

Without frame offsets it is small, so it is kept with the record of the run: which checkpoint saw which
episode can be told when the shards are long deleted.
"""

import io
from pathlib import Path

import pyarrow.parquet as pq

COLUMNS = (
    *("key", "split", "source_file", "record_index", "payload_sha256", "content_sha256"),
    *("kept", "reason", "steps_in", "steps_out", "shard"),
)


def episode_table(dataset: Path) -> bytes:
    """episodes.parquet of an ingested folder, reduced to COLUMNS, in the same order."""
    table = pq.read_table(dataset / "episodes.parquet", columns=list(COLUMNS))
    stream = io.BytesIO()
    pq.write_table(table.select(list(COLUMNS)), stream, compression="zstd", write_statistics=False)
    return stream.getvalue()
