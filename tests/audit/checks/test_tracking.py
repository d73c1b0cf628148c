"""MLflow's file as anybody may have written it: what the audit says of one that it does not read."""

import sqlite3
from contextlib import closing

import pytest

from whale.audit.checks.tracking import check_tracking
from whale.audit.checks.tracking_page import NAMING, _shown
from whale.common.errors import BadDataError
from whale.tracking import mlflow_rows

COLUMNS = {"tags": "key TEXT, value TEXT, run_uuid TEXT", "params": "key TEXT, value TEXT, run_uuid TEXT"}
MANY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)"


def written(folder, *statements):
    path = folder / "mlflow.db"
    with closing(sqlite3.connect(path)) as store:
        for table, columns in COLUMNS.items():
            store.execute(f"CREATE TABLE {table} ({columns})")
        for each in statements:
            store.execute(each)
        store.commit()
    return path


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (
            ("DROP TABLE tags", f"CREATE VIEW tags AS {MANY} SELECT i AS key, i AS value, i AS run_uuid FROM n"),
            "no table",
        ),
        ((f"INSERT INTO tags {MANY} SELECT i, i, i FROM n",), "rows"),
        (("INSERT INTO params VALUES ('a', zeroblob(2000000), 'x')",), "too big"),
    ],
)
def test_a_store_beyond_the_limits_is_one_finding_that_names_it(tmp_path, monkeypatch, statements, said):
    monkeypatch.setattr(mlflow_rows, "STORE_ROWS", 2000)
    store = written(tmp_path, *statements)
    (finding,) = check_tracking([], store)
    assert finding.kind == "mismatch" and finding.file == str(store) and said in f"{finding.what} {finding.found}"
    assert finding.expected and "whale track sync" in finding.remedy


def test_values_that_are_no_text_are_read_as_what_they_are(tmp_path):
    store = written(tmp_path, "INSERT INTO tags VALUES ('a', NULL, NULL), ('b', x'ff', 'x')")
    assert list(check_tracking([], store)) == []


def test_the_page_is_read_of_plain_tables_and_no_name_of_the_file_is_sql(tmp_path):
    tables = [f"CREATE TABLE {name} ({', '.join(columns)})" for name, columns in NAMING.items() if name not in COLUMNS]
    hostile = 'logged_model_x" UNION SELECT value FROM secret --'.replace('"', '""')
    more = [
        f'CREATE TABLE "{hostile}" (x TEXT)',
        "CREATE TABLE secret (value TEXT)",
        "INSERT INTO secret VALUES ('hidden')",
    ]
    more.append(f"CREATE VIEW spans AS {MANY} SELECT i FROM n")
    times = "INSERT INTO runs VALUES ('1', 'mix', 'soon'), ('2', 'mix', 5), ('3', 'mix', NULL)"  # of any kind
    found = _shown(written(tmp_path, *tables, *more, times))
    assert set(found) == {*NAMING, *COLUMNS} and "hidden" not in str(list(found.values()))
    assert found["runs"].total() == 3


def test_a_page_without_a_table_that_it_needs_is_named(tmp_path):
    with pytest.raises(BadDataError, match=r"(?s)can be read.*no table 'runs'"):
        _shown(written(tmp_path))
