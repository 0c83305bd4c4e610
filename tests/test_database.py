"""Tables in a database: what is read of PostgreSQL and SQLite, and what is said when it cannot be."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tabserve.api.app import create_app
from tabserve.columns.features import Category, Integer, Number
from tabserve.declaration.use_case import UseCase
from tabserve.errors import DatabaseError
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.database import is_database, open_database
from tabserve.tables.reader import read_training_rows
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tabserve.transformers import Target
from tests.postgres import running_postgres

SECRET = "hunter2-of-the-database"


def rows_of(source: str, query: str, folder: Path = Path()) -> list[Any]:
    with open_database(source, query, folder) as read:
        return [[number, *cells] for number, cells, _ in read.sheet.rows]


def refused(source: str, query: str, folder: Path = Path()) -> str:
    with pytest.raises(DatabaseError) as error:
        rows_of(source, query, folder)
    message = str(error.value)
    assert SECRET not in message
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "loans.db") as connection:
        connection.execute("create table loans (age integer, housing text, income real)")
        connection.executemany(
            "insert into loans values (?, ?, ?)", [(35, "own", 1.5), (None,) * 3, (36, "rent", None)]
        )
    connection.close()
    return tmp_path


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("postgresql://me@host/db", True),
        ("sqlite:///a.db", True),
        ("a.csv", False),
        ("folder/a.xlsx", False),
        ("", False),
    ],
)
def test_a_source_with_a_scheme_is_a_database(source: str, is_one: bool) -> None:
    assert is_database(source) is is_one


def test_an_sqlite_file_beside_the_declaration_is_read(folder: Path) -> None:
    expected = [[0, "age", "housing", "income"], [1, 35, "own", 1.5], [3, 36, "rent", None]]
    assert rows_of("sqlite:///loans.db", "loans", folder) == expected
    assert (
        rows_of("sqlite:///loans.db", "select * from loans where housing like '%' or age is null", folder) == expected
    )


def test_rows_become_a_table_of_the_declared_kinds(folder: Path) -> None:
    age = Integer(name="age", description="", low=18, high=99)
    housing = Category(name="housing", description="", values=("own", "rent"))
    with open_database("sqlite:///loans.db", "select age, housing from loans where age > 0", folder) as read:
        table = read_training_rows(read.sheet, [age], housing)
    assert (table.records, table.target, list(table.rows)) == ([{"age": 35}, {"age": 36}], ["own", "rent"], [1, 2])


def test_the_digest_follows_from_the_rows(folder: Path) -> None:
    def digest(query: str) -> str:
        with open_database("sqlite:///loans.db", query, folder) as read:
            list(read.sheet.rows)
            return str(read.digest.hexdigest())

    assert digest("loans") == digest("select * from loans") != digest("select * from loans where age = 35")


def test_nothing_is_written_to_an_sqlite_file(folder: Path) -> None:
    assert "readonly" in refused("sqlite:///loans.db", "delete from loans", folder)
    assert len(rows_of("sqlite:///loans.db", "loans", folder)) == 3


@pytest.mark.parametrize(
    ("source", "query", "message"),
    [
        ("sqlite:///none.db", "loans", "There is no database none.db."),
        ("sqlite:///loans.db", "clients", "no such table: clients"),
        ("sqlite:///loans.db", "selct * from loans", "syntax error"),
        ("sqlite:///loans.db", "", "A database needs a query"),
        (
            "sqlite:///loans.db",
            "select x'00' as photo from loans",
            "The column 'photo' holds values that no column takes",
        ),
        ("mysql://me@host/db", "loans", "must begin with postgresql:// or sqlite:///"),
        ("postgresql://me@host:port/db", "loans", "is malformed"),
        (f"postgresql://me:{SECRET}@host/db", "loans", "set DATABASE_PASSWORD instead"),
        (f"postgresql://host/db?password={SECRET}", "loans", "set DATABASE_PASSWORD instead"),
        ("postgresql://me@127.0.0.1:1/db", "loans", "The database cannot be reached"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, query: str, message: str
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)
    assert message in refused(source, query, folder)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL whose user `reader` has a password and may read some tables."""
    with running_postgres("reader", SECRET) as port:
        fill(port)
        yield f"postgresql://reader@127.0.0.1:{port}/postgres"


def fill(port: int) -> None:
    import psycopg

    address = {"host": "127.0.0.1", "port": port, "dbname": "postgres"}
    with psycopg.connect(**address, user="reader", password=SECRET) as connection:  # type: ignore[arg-type]
        connection.execute(
            "create table loans (age int, income numeric, day date, at timestamp, late boolean, code uuid, tags int[])"
        )
        connection.execute("insert into loans values (35, 1.5, '2024-02-29', '2024-02-29 12:00', true, null, null)")
        connection.execute("insert into loans (age) values (36)")
        connection.execute("create table many as select n as age from generate_series(1, 5000) as n")
        connection.execute("create sequence counter")
        connection.execute(
            "create table flats as select n as size, case when n % 3 = 0 then 'east' else 'west' end as region, "
            "n + n % 7 as rent from generate_series(1, 300) as n"
        )
        connection.execute(f"create role stranger login password '{SECRET}'")


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET)


@pytest.mark.usefixtures("password")
def test_postgresql_gives_values_of_their_kinds(postgres: str) -> None:
    assert rows_of(postgres, "select age, income, day, at, late, code from public.loans order by age") == [
        [0, "age", "income", "day", "at", "late", "code"],
        [1, 35, Decimal("1.5"), date(2024, 2, 29), datetime(2024, 2, 29, 12), True, None],
        [2, 36, None, None, None, None, None],
    ]


@pytest.mark.usefixtures("password")
def test_a_table_longer_than_a_piece_is_read_to_its_end(postgres: str) -> None:
    assert [age for _, age in rows_of(postgres, "public.many")[1:]] == list(range(1, 5001))


@pytest.mark.usefixtures("password")
def test_a_colon_or_a_percent_sign_in_a_query_is_no_parameter(postgres: str) -> None:
    assert rows_of(postgres, "select age::text as a, ':x %s %' as b from loans where age = 35")[1:] == [
        [1, "35", ":x %s %"]
    ]


def test_libpq_s_own_variable_gives_the_password_too(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    assert rows_of(postgres, "select 1 as one") == [[0, "one"], [1, 1]]


@pytest.mark.usefixtures("password")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("clients", 'relation "clients" does not exist'),
        ("selct 1 as one", "syntax error"),
        (
            "select tags from loans where age = 0 union select array[1]",
            "values that no column takes (list)",
        ),
        ("delete from loans", "syntax error"),
        ("select nextval('counter') as n", "read-only transaction"),
    ],
)
def test_what_postgresql_refuses_is_said_in_a_sentence(postgres: str, query: str, message: str) -> None:
    assert message in refused(postgres, query)


@pytest.mark.usefixtures("password")
def test_a_table_without_the_permission_is_said(postgres: str) -> None:
    assert "permission denied for table loans" in refused(postgres.replace("reader@", "stranger@"), "loans")


def test_a_wrong_password_is_said_without_it(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", SECRET + "x")
    assert "password authentication failed" in refused(postgres, "loans")


FLATS = UseCase(
    name="flats",
    description="What does a flat cost?",
    features=(
        Integer(name="size", description="Square metres", low=1, high=1000),
        Category(name="region", description="Where", values=("east", "west")),
    ),
    target=Target(Number(name="rent", description="Rent", low=0, high=2000)),
    query="select size, region, rent from flats order by size",
    splits=2,
    repeats=1,
    gates=(),
)


@pytest.mark.slow
@pytest.mark.usefixtures("password")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_model_is_trained_from_a_database_and_served_and_no_file_or_log_has_its_password(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = "sqlite:///flats.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "flats.db")) as connection, connection:
            connection.execute("create table flats (size, region, rent)")
            flats = [(size, "west" if size % 3 else "east", size + size % 7) for size in range(1, 301)]
            connection.executemany("insert into flats values (?, ?, ?)", flats)
    line = next(one for one in FLATS.algorithms if one.name == FLATS.baseline.name)
    use_case = replace(FLATS, source=source, folder=tmp_path, algorithms=(line,), baseline=line)
    registry = Registry(tmp_path / "models")
    run_training(use_case, registry, use_case.path, Plan(trials=1, jobs=1))
    client = create_app(Settings(model_registry=registry.location, auth_required=False)).test_client()
    answer = client.post("/output/flats", json={"size": 120, "region": "east"})
    assert answer.status_code == 200
    assert answer.json["result"] == pytest.approx([121], abs=10)
    assert client.post("/outputs/flats").json["r2_score"] > 0.9
    files = {path.name: path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()}
    assert {"manifest.json", "report.html"} <= set(files)
    assert not [name for name, content in files.items() if SECRET.encode() in content]
    assert SECRET not in caplog.text
