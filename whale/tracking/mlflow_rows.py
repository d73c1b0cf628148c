"""Rows of MLflow's sqlite file, read as a stranger's: read-only, and no more than whale/common/limits.py allows.

Anybody can write that file: its `tags` may be a view that never ends, a name in it may be SQL. And MLflow's own client
reads a run or a model with all that hangs on it at once, however much that is.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, BeyondLimitError
from whale.common.limits import FOUND_ROWS, STORE_BYTES, STORE_INSTRUCTIONS, STORE_ROWS, STORE_VALUE_BYTES

AT_ONCE = 100_000  # instructions of SQLite between two looks at their number
REMEDY = "move it away; `whale track sync` makes it anew of the spools"
WHOLE = {  # table -> what MLflow's client reads all rows of with one run, one model's name or one version
    "params": ("run_uuid",),
    "tags": ("run_uuid",),
    "latest_metrics": ("run_uuid",),
    "inputs": ("source_id", "destination_id"),
    "registered_model_tags": ("name",),
    "registered_model_aliases": ("name",),
    "model_version_tags": ("name",),
}


class StoreRows:
    """One reading: the limits are of all that it reads. BadDataError where the file is no such store or lacks a table
    or a column that is asked for, BeyondLimitError for more than the limits; both name file, place and remedy."""

    def __init__(self, connection: sqlite3.Connection, store: Path):
        self._connection, self._store = connection, store
        self._rows = self._bytes = self._instructions = 0
        self._columns: dict[str, tuple[str, ...]] = {}
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, STORE_VALUE_BYTES)
        connection.set_progress_handler(self._is_too_long, AT_ONCE)
        for switch in ("trusted_schema = OFF", "cell_size_check = ON"):  # as SQLite advises for files of others
            list(self._read(switch, f"PRAGMA {switch}", ()))

    def tables(self) -> list[str]:
        """Names of what is a table by itself: no view, and nothing that runs code of its own."""
        wanted = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
        return [str(name) for (name,) in self._read("its tables", wanted, ())]

    def columns(self, table: str) -> tuple[str, ...]:
        """Names of the columns of a table, those that are computed left out."""
        if table not in self._columns:
            if table not in self.tables():
                raise self._unreadable(table, f"no table '{table}'")
            found = self._read(table, "SELECT name FROM pragma_table_info(?)", (table,))
            self._columns[table] = tuple(str(name) for (name,) in found)
        return self._columns[table]

    def of(self, table: str, columns: Sequence[str], **where: str | int) -> Iterator[tuple[Any, ...]]:
        """Values of `columns` of every row in which the columns of `where` have these values."""
        self.require(table, [*columns, *where])
        wanted = f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(table)}"
        if where:
            wanted += f" WHERE {' AND '.join(f'{_quoted(name)} = ?' for name in where)}"
        yield from self._read(table, wanted, tuple(where.values()))

    def more_than(self, most: int, table: str, column: str) -> tuple[str, int] | None:
        """A value of `column` that more than `most` rows share, and how many do; None if there is no such value."""
        self.require(table, [column])
        wanted = f"SELECT {_quoted(column)}, COUNT(*) FROM {_quoted(table)} GROUP BY 1 HAVING COUNT(*) > ? LIMIT 1"
        found = list(self._read(table, wanted, (most,)))
        return (str(found[0][0]), found[0][1]) if found else None

    def require(self, table: str, columns: Iterable[str]) -> None:
        """SQLite takes a quoted name of no column for a text, and gives that text of every row."""
        for column in columns:
            if column not in self.columns(table):
                raise self._unreadable(table, f"no column '{column}'")

    def _read(self, place: str, query: str, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        try:
            for row in self._connection.execute(query, values):
                self._rows += 1
                self._bytes += sum(len(each) for each in row if isinstance(each, str | bytes))
                if self._rows > STORE_ROWS or self._bytes > STORE_BYTES:
                    raise self._beyond(place, f"{self._rows} rows, {self._bytes} bytes so far")
                yield row
        except sqlite3.Error as error:
            if self._instructions > STORE_INSTRUCTIONS:
                raise self._beyond(place, f"{self._instructions} instructions so far") from None
            raise self._unreadable(place, str(error)) from None

    def _is_too_long(self) -> bool:
        self._instructions += AT_ONCE
        return self._instructions > STORE_INSTRUCTIONS

    def _beyond(self, place: str, found: str) -> BeyondLimitError:
        return BeyondLimitError(
            "MLflow's store has too much to read", file=self._store, place=place, found=found,
            expected=f"<= {STORE_ROWS} rows, {STORE_BYTES} bytes, {STORE_INSTRUCTIONS} instructions", remedy=REMEDY,
        )  # fmt: skip

    def _unreadable(self, place: str, found: str) -> BadDataError:
        return BadDataError(
            "not a store of MLflow that can be read", file=self._store, place=place, found=found,
            expected=f"MLflow's tables, no value above {STORE_VALUE_BYTES} bytes", remedy=REMEDY,
        )  # fmt: skip


@contextmanager
def opened(store: Path) -> Iterator[StoreRows]:
    """A reading of `store`, which nothing is written to. Not as an immutable file: MLflow may write to it meanwhile."""
    try:
        connection = sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise BadDataError("not a store of MLflow that can be read", file=store, place="opening it", found=str(error),
                           expected="a file of SQLite", remedy=REMEDY) from None  # fmt: skip
    with closing(connection):
        yield StoreRows(connection, store)


def store_of(client: Any) -> Path:
    """The sqlite file behind a MlflowClient of a local store."""
    return Path(client.tracking_uri.removeprefix("sqlite:///"))


def require_few(client: Any) -> None:
    """BeyondLimitError where MLflow's client would read more than FOUND_ROWS rows with one run, model or version: it
    pages what it finds, never what hangs on it."""
    store = store_of(client)
    if not store.is_file():
        return
    with opened(store) as rows:
        here = set(rows.tables())
        for table, columns in WHOLE.items():
            for column in columns if table in here else ():
                if found := rows.more_than(FOUND_ROWS, table, column):
                    raise BeyondLimitError(
                        "MLflow's store has too much of one run or model", file=store,
                        place=f"{table}, {column} {found[0]}", found=f"{found[1]} rows", expected=f"<= {FOUND_ROWS}",
                        remedy=REMEDY,
                    )  # fmt: skip


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
