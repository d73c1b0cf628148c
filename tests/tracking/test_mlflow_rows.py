"""MLflow's sqlite file as a stranger may have written it: read-only, no view, bounded, errors by name."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from whale.common.errors import BadDataError, BeyondLimitError
from whale.tracking import mlflow_rows
from whale.tracking.mlflow_rows import opened, require_few

TAGS = "CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT)"
COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)"


def written(folder, *statements):
    path = folder / "mlflow.db"
    with closing(sqlite3.connect(path)) as store:
        for each in (TAGS, *statements):
            store.execute(each)
        store.commit()
    return path


def read(path, table="tags", columns=("key", "value", "run_uuid"), **where):
    with opened(path) as rows:
        return list(rows.of(table, columns, **where))


def test_rows_come_back_those_that_are_asked_for_and_the_file_stays_as_it_is(tmp_path):
    path = written(tmp_path, "INSERT INTO tags VALUES ('a', '1', 'x'), ('b', '2', 'y')")
    before = path.read_bytes()
    assert read(path, columns=["value"], run_uuid="y") == [("2",)]
    with opened(path) as rows:
        assert rows.tables() == ["tags"] and rows.columns("tags") == ("key", "value", "run_uuid")
        with pytest.raises(BadDataError, match="readonly"):
            list(rows._read("writing", "DELETE FROM tags", ()))
    assert path.read_bytes() == before


HOSTILE = {  # statements, limits in the place of ours, what the error says
    "a view in the place of a table": (
        ("DROP TABLE tags", f"CREATE VIEW tags AS {COUNT} SELECT i AS key, i AS value, i AS run_uuid FROM n"),
        {}, r"(?s)cannot|can be read.*place: +tags.*no table 'tags'"),
    "a value that swells": (
        ("INSERT INTO tags VALUES ('a', zeroblob(3000000), 'x')",), {}, r"(?s)can be read.*place: +tags.*too big"),
    "too many rows": (
        (f"INSERT INTO tags {COUNT} SELECT 'a', i, 'x' FROM n",), {"STORE_ROWS": 2000},
        r"(?s)too much to read.*place: +tags.*found: +2001 rows.*<= 2000 rows"),
    "too many bytes": (
        (f"INSERT INTO tags {COUNT} SELECT 'a', i, 'x' FROM n",), {"STORE_BYTES": 500},
        r"(?s)too much to read.*place: +tags.*<= 2000000 rows, 500 bytes"),
    "work without a row": (
        (f"INSERT INTO tags {COUNT} SELECT 'a', i, 'x' FROM n",), {"STORE_INSTRUCTIONS": 2000, "AT_ONCE": 100},
        r"(?s)too much to read.*place: +tags.*instructions so far"),
    "a table without a column": (
        ("ALTER TABLE tags RENAME COLUMN value TO worth",), {}, r"(?s)can be read.*place: +tags.*no column 'value'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_store_ends_in_one_error_that_names_it(tmp_path, monkeypatch, kind):
    statements, limits, said = HOSTILE[kind]
    path = written(tmp_path, *statements)
    for name, limit in limits.items():
        monkeypatch.setattr(mlflow_rows, name, limit)
    with pytest.raises(BadDataError, match=said) as error:
        read(path, run_uuid="nobody") if kind == "work without a row" else read(path)
    assert error.value.file == path and "whale track sync" in error.value.remedy


def test_no_store_and_a_file_that_is_none_are_named(tmp_path):
    for path in (tmp_path / "none.db", tmp_path / "text.db"):
        if path.name == "text.db":
            path.write_text("no database " * 100)
        with pytest.raises(BadDataError, match=path.name):
            read(path)
    assert not (tmp_path / "none.db").exists()


def test_a_name_of_the_file_is_never_sql(tmp_path):
    """Neither of a table nor of a column."""
    name = 'tags" UNION SELECT 1, 2, 3 FROM sqlite_master --'
    doubled = name.replace('"', '""')
    path = written(
        tmp_path, f'CREATE TABLE "{doubled}" ("x"" FROM tags --" TEXT)', f'INSERT INTO "{doubled}" VALUES (7)'
    )
    with opened(path) as rows:
        assert name in rows.tables() and rows.columns(name) == ('x" FROM tags --',)
        assert list(rows.of(name, rows.columns(name))) == [("7",)]


def test_a_run_that_more_hangs_on_than_mlflow_may_read_at_once_is_named(tmp_path, monkeypatch):
    path = written(
        tmp_path, f"INSERT INTO tags {COUNT} SELECT i, i, 'x' FROM n", "INSERT INTO tags VALUES ('a', '1', 'y')"
    )
    client = SimpleNamespace(tracking_uri=f"sqlite:///{path}")
    require_few(client)
    monkeypatch.setattr(mlflow_rows, "FOUND_ROWS", 2999)
    with pytest.raises(BeyondLimitError, match=r"(?s)too much of one run.*place: +tags, run_uuid x.*found: +3000 rows"):
        require_few(client)
    require_few(SimpleNamespace(tracking_uri=f"sqlite:///{tmp_path / 'none.db'}"))  # there is none yet
