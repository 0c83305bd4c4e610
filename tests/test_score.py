"""`tabserve score`: tables answered offline."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from pyarrow import feather

from tabserve.cli.commands import tabserve
from tabserve.errors import ScoringError
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.scoring.item import load
from tabserve.tables.limits import Deadline
from tabserve.tables.workbook import open_workbook
from tests.artifacts import copy_of
from tests.conftest import ROOT

Run = Callable[..., Result]


@pytest.fixture
def run(trained: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Score in an empty folder; the command succeeds or fails in an expected way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_REGISTRY", str(trained.location))

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(tabserve, ["score", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def summary(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def write_csv(path: str, records: Sequence[dict[str, Any]], **options: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, [*records[0]], **options)
        writer.writeheader()
        writer.writerows(records)


def read_csv(path: str, **options: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return [*csv.DictReader(file, **options)]


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def expected(artifact: Artifact, records: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return dict(artifact.task.as_table(make_prediction(artifact, records).columns))


def test_a_csv_file_gets_the_answers_of_the_service_behind_its_own_columns(run, records, artifact):
    write_csv("loans.csv", records)
    result = run("credit", "loans.csv", "scores.csv")
    assert result.exit_code == 0, result.output
    rows = read_csv("scores.csv")
    answers = expected(artifact, records)
    assert [*rows[0]] == [*records[0], *answers]
    assert [float(row["probability"]) for row in rows] == answers["probability"]
    assert [int(row["result"]) for row in rows] == answers["result"]
    assert [row["outcome"] for row in rows] == answers["outcome"]
    assert [{name: row[name] for name in records[0]} for row in rows] == read_csv("loans.csv")
    told = summary(result)
    assert told["model_id"] == artifact.model_id
    assert (told["rows"], told["refused"], told["failed"]) == (1000, 0, {})
    assert told["bytes"] == Path("scores.csv").stat().st_size
    assert [one["output"] for one in told["files"]] == ["./scores.csv"]


def test_parquet_keeps_its_types_and_chunks_do_not_matter(run, records, artifact):
    table = pa.Table.from_pylist(records)
    table = table.set_column(4, pa.field("amount", pa.int16()), table["amount"].cast(pa.int16()))
    pq.write_table(table, "loans.parquet")
    assert run("credit", "loans.parquet", "scores.parquet", "--chunk", "64").exit_code == 0
    scores = pq.read_table("scores.parquet")
    assert scores.select(table.schema.names).equals(table)
    assert scores["probability"].to_pylist() == expected(artifact, records)["probability"]
    assert scores.schema.field("result").type == pa.int64()
    assert pq.ParquetFile("scores.parquet").metadata.row_group(0).num_rows == 64


@pytest.mark.parametrize("ending", ["csv", "parquet", "feather", "arrows", "jsonl", "xlsx"])
def test_every_kind_is_written_from_every_other(run, records, artifact, ending):
    some = records[:60]
    write_csv("in/a.csv", some)
    feather.write_feather(pa.Table.from_pylist(some), "in/b.feather")
    Path("in/c.jsonl").write_text("".join(json.dumps(record) + "\n" for record in some))
    with pa.ipc.new_stream("in/d.arrows", (table := pa.Table.from_pylist(some)).schema) as writer:
        writer.write_table(table)
    wanted = expected(artifact, some)
    for name in ("a.csv", "b.feather", "c.jsonl", "d.arrows"):
        result = run("credit", f"in/{name}", f"scores-{name}.{ending}")
        assert result.exit_code == 0, result.output
        rows = read_any(f"scores-{name}.{ending}")
        assert [float(row["probability"]) for row in rows] == wanted["probability"]
        assert [int(row["amount"]) for row in rows] == [record["amount"] for record in some]
        assert [row["purpose"] for row in rows] == [record["purpose"] for record in some]


def read_any(path: str) -> list[dict[str, Any]]:
    match path.rpartition(".")[2]:
        case "csv":
            return read_csv(path)
        case "parquet":
            return pq.read_table(path).to_pylist()
        case "feather":
            return feather.read_table(path).to_pylist()
        case "arrows":
            return pa.ipc.open_stream(path).read_all().to_pylist()
        case "jsonl":
            return [json.loads(line) for line in Path(path).read_text().splitlines()]
    with Path(path).open("rb") as file, open_workbook(file, path, Deadline(None)) as sheets:
        (_, header, _), *rows = next(sheets).rows
        return [dict(zip(header, cells, strict=True)) for _, cells, _ in rows]


def test_columns_chooses_what_is_written_and_reasons_are_those_of_the_service(run, records, artifact):
    from tabserve.explain import explain

    some = records[:50]
    write_csv("loans.csv", some)
    chosen = ["age", "probability", "reason_1", "reason_2"]
    assert run("credit", "loans.csv", "s.csv", "--columns", ",".join(chosen), "--reasons", "2").exit_code == 0
    rows = read_csv("s.csv")
    assert [*rows[0]] == chosen
    for row, explanation in zip(rows, explain(artifact, some), strict=True):
        texts = [reason.text for reason in explanation.reasons[:2]]
        assert [row["reason_1"], row["reason_2"]] == [*texts, "", ""][:2]
        assert float(row["probability"]) == explanation.score


def test_columns_that_cannot_be_written_are_named(run, records):
    write_csv("loans.csv", records[:2])
    result = run("credit", "loans.csv", "s.csv", "--columns", "age,zip")
    assert result.exit_code == 1
    assert "There is no column 'zip' to write" in result.stderr
    assert run("credit", "loans.csv", "s.csv", "--columns", "age,,").exit_code == 2


def test_a_folder_is_scored_with_all_below_it_and_each_file_keeps_its_name(run, records):
    write_csv("in/b/two.csv", records[:3])
    write_csv("in/a.csv", records[:2])
    write_csv("in/.hidden/three.csv", records[:2])
    Path("in/readme.md").write_text("no table")
    result = run("credit", "in", "out")
    assert result.exit_code == 0, result.output
    assert sorted(one["output"] for one in summary(result)["files"]) == ["out/a.csv", "out/b/two.csv"]
    assert len(read_csv("out/b/two.csv")) == 3


def test_patterns_are_expanded_by_the_command_itself(run, records):
    for name in ("in/a-1.csv", "in/a-2.csv", "in/b-1.csv", "in/deep/a-3.csv"):
        write_csv(name, records[:2])
    assert [one["output"] for one in summary(run("credit", "in/a-*.csv", "x", "--jobs", "1"))["files"]] == [
        "x/a-1.csv",
        "x/a-2.csv",
    ]
    assert len(summary(run("credit", "in/**/a-[23].csv", "y"))["files"]) == 2
    assert "There is no table at in/z*" in run("credit", "in/z*", "z").stderr


def test_the_dialect_of_a_csv_file_is_kept(run, bikes, some_bikes):
    header, *hours = some_bikes.read_text().splitlines()[:30]
    columns = header.split(",")
    table = [dict(zip(columns, line.split(","), strict=True)) for line in hours]
    with Path("hours.csv").open("w", encoding="utf-16", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=";")
        writer.writeheader()
        writer.writerows({name: cell.replace(".", ",") for name, cell in row.items()} for row in table)
    assert run("bikes", "hours.csv", "scores.csv").exit_code == 0
    text = Path("scores.csv").read_bytes().decode("utf-16")
    rows = [*csv.DictReader(text.splitlines(), delimiter=";")]
    assert len(rows) == len(table)
    assert all(float(row["result"].replace(",", ".")) >= 0 and "," in row["result"] for row in rows)


def test_texts_that_a_spreadsheet_takes_for_formulas_are_made_harmless(run, trained, artifact, records, tmp_path):
    from tabserve.scoring.writing import pieces

    texts = ["=1+1", "  @a", "-5", "-5a", "\uff1dx", 'a "b", c', "two\nlines", "", None, "é"]
    table = pa.table({"text": texts, "number": [1.5] * len(texts)})
    content = b"".join(pieces(table.schema, iter([table]), {"format": "csv"})).decode()
    from tabserve.tables.writer import csv_pieces

    assert content == b"".join(csv_pieces(table.to_pydict())).decode()


def test_faulty_rows_stop_a_run_before_anything_is_written_and_earlier_files_stay(run, records):
    write_csv("in/a.csv", records[:5])
    write_csv("in/b.csv", [*records[:3], {**records[3], "age": "17x", "purpose": "yacht"}])
    write_csv("in/c.csv", records[:5])
    result = run("credit", "in", "out", "--jobs", "1")
    assert result.exit_code == 1
    assert "row 5, column 'age':" in result.stderr
    assert "row 5, column 'purpose':" in result.stderr
    assert "17x" not in result.stderr
    assert "yacht" not in result.stderr
    assert {"a.csv"} <= set(names("out")) <= {".tabserve", "a.csv", "c.csv"}
    assert [*summary(result)["failed"]] == ["in/b.csv"]


def test_partial_leaves_faulty_rows_without_an_answer_and_says_why_in_a_file_beside(run, records, artifact):
    odd = {**records[3], "age": "17x", "purpose": "yacht"}
    write_csv("loans.csv", [*records[:3], odd, *records[4:6]])
    result = run("credit", "loans.csv", "out/", "--partial")
    assert result.exit_code == 3
    assert summary(result)["refused"] == 1
    rows = read_csv("out/loans.csv")
    answers = expected(artifact, records[:6])["probability"]
    assert [row["probability"] and float(row["probability"]) for row in rows] == [*answers[:3], "", *answers[4:6]]
    assert rows[3]["age"] == "17x"
    faults = read_csv("out/loans.csv.errors.csv")
    assert [(fault["row"], fault["column"]) for fault in faults] == [("5", "purpose"), ("5", "age")]
    assert all("17x" not in fault["problem"] and fault["problem"].endswith(".") for fault in faults)
    # a second run knows them
    assert run("credit", "loans.csv", "out/", "--partial").exit_code == 3


def test_parquet_whose_columns_have_other_types_is_refused_by_column(run, records):
    table = pa.Table.from_pylist(records[:3])
    pq.write_table(table.set_column(12, "age", pa.array(["old", "young", "old"])), "words.parquet")
    result = run("credit", "words.parquet", "s.parquet")
    assert result.exit_code == 1
    assert "row 1, column 'age':" in result.stderr
    pq.write_table(table.set_column(12, "age", pa.array([[1], [2], [3]])), "lists.parquet")
    result = run("credit", "lists.parquet", "s.parquet")
    assert result.exit_code == 1
    assert "age" in result.stderr
    assert not any(name.startswith("s.") for name in names("."))


def test_a_column_that_the_third_file_lacks_is_named_with_it(run, records):
    for name in ("a", "b", "d"):
        write_csv(f"in/{name}.csv", records[:3])
    write_csv("in/c.csv", [{key: value for key, value in records[0].items() if key != "age"}])
    result = run("credit", "in", "out", "--jobs", "1")
    assert result.exit_code == 1
    assert "c.csv" in result.stderr
    assert "column 'age': This column is missing" in result.stderr
    assert {"a.csv", "b.csv"} <= set(names("out")) <= {".tabserve", "a.csv", "b.csv", "d.csv"}


def test_a_table_without_rows_gives_scores_without_rows_and_an_empty_file_is_refused(run, records):
    Path("none.csv").write_text(",".join(records[0]) + "\n")
    pq.write_table(pa.Table.from_pylist(records[:1]).slice(1), "none.parquet")
    for name in ("none.csv", "none.parquet"):
        result = run("credit", name, "out/")
        assert result.exit_code == 0, result.output
        assert summary(result)["rows"] == 0
    assert pq.read_table("out/none.parquet").schema.names[-1] == "probability"
    assert Path("out/none.csv").read_text().startswith("checking_balance,")
    Path("empty.csv").touch()
    result = run("credit", "empty.csv", "out/")
    assert result.exit_code == 1
    assert "empty.csv" in result.stderr
    assert not Path("out/empty.csv").exists()


def test_destinations_that_would_lose_something_are_refused(run, records):
    write_csv("in/a.csv", records[:2])
    write_csv("more/a.csv", records[:2])
    for arguments, problem in (
        (("in/a.csv", "in/a.csv"), "would be replaced by its scores"),
        (("in/a.csv", "in"), "would be replaced by its scores"),
        (("in", "in/scores"), "The destination is in in"),
        (("in/a.csv", "more/a.csv", "out"), "would both be written as a.csv"),
        (("in/a.csv", "more/a.csv", "one.csv"), "is one file, and there are 2 tables"),
        (("in/a.csv", "more"), "more/a.csv exists, and this command did not write it"),
        (("nowhere.csv", "out"), "There is no table at nowhere.csv"),
        (("in/a.csv", "out", "--query", "select 1"), "--query is for a database"),
    ):
        result = run("credit", *arguments)
        assert result.exit_code == 1
        assert problem in result.stderr
        assert not Path("out").exists()
    assert len(read_csv("more/a.csv")) == 2


def test_a_second_run_keeps_what_is_done_and_refuses_what_would_differ(run, records, trained):
    write_csv("in/a.csv", records[:2])
    assert run("credit", "in", "out").exit_code == 0
    written = Path("out/a.csv").stat().st_mtime_ns
    write_csv("in/b.csv", records[:2])
    again = summary(run("credit", "in", "out"))
    assert [(one["source"], one["skipped"]) for one in again["files"]] == [("in/a.csv", True), ("in/b.csv", False)]
    assert Path("out/a.csv").stat().st_mtime_ns == written
    assert "was written with other options" in run("credit", "in", "out", "--columns", "result").stderr
    write_csv("in/a.csv", records[:3])
    result = run("credit", "in", "out")
    assert result.exit_code == 1
    assert "out/a.csv was made of in/a.csv before that changed" in result.stderr
    assert run("credit", "in", "out", "--overwrite").exit_code == 0
    assert len(read_csv("out/a.csv")) == 3
    Path("out/a.csv").write_text("edited")
    assert "out/a.csv was changed after it was written" in run("credit", "in", "out").stderr


def test_scores_of_another_model_are_not_reused(run, records, registry, monkeypatch):
    write_csv("a.csv", records[:2])
    assert run("credit", "a.csv", "out/").exit_code == 0
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    newer = copy_of(registry)
    result = run("credit", "a.csv", "out/")
    assert "holds the scores of another model" in result.stderr
    assert summary(run(newer, "a.csv", "new/"))["model_id"] == newer
    assert "There is no model of that name" in run("credit-lightgbm_v1.0.0-1.000000", "a.csv", "x/").stderr


def test_a_file_that_changes_while_it_is_read_is_not_scored(run, records, monkeypatch):
    write_csv("a.csv", records)
    from tabserve.models.lightgbm import LgbClassifier

    predict = LgbClassifier.predict

    def predict_meanwhile(self: Any, matrix: Any) -> Any:
        if len(matrix) > 1:
            with Path("a.csv").open("a") as file:
                file.write("more\n")
        return predict(self, matrix)

    monkeypatch.setattr(LgbClassifier, "predict", predict_meanwhile)
    result = run("credit", "a.csv", "out/")
    assert result.exit_code == 1
    assert "a.csv changed while it was read" in result.stderr
    assert names("out") == [".tabserve"]


def test_a_parquet_file_that_is_cut_while_it_is_read_is_not_scored(run, records, monkeypatch):
    pq.write_table(pa.Table.from_pylist(records), "a.parquet")
    from tabserve.scoring.storage import Folders

    open_whole = Folders.open

    def open_and_cut(self: Folders, path: str) -> Any:
        file = open_whole(self, path)
        os.truncate(path, Path(path).stat().st_size - 2000)
        return file

    monkeypatch.setattr(Folders, "open", open_and_cut)
    result = run("credit", "a.parquet", "out/")
    assert result.exit_code == 1
    assert "a.parquet changed while it was read" in result.stderr
    assert names("out") == [".tabserve"]


def scoring(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tabserve", "score", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_full_disk_leaves_nothing_half_written(run, records):
    write_csv("loans.csv", records)
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    # -B: Python would leave half of a module, on which all later tests stumble
    command = [sys.executable, "-B", "-c", limit + ignore + "from tabserve.cli import main; main()"]
    done = subprocess.run(
        [*command, "score", "credit", "loans.csv", "out/"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "out/loans.csv cannot be written (the file would be larger than is allowed)" in done.stderr
    assert names("out") == [".tabserve"]
    assert run("credit", "loans.csv", "out/").exit_code == 0


def test_two_runs_do_not_write_to_one_destination(run, records):
    from tabserve.scoring.storage import Folders

    write_csv("a.csv", records[:2])
    with Folders().hold("out/.tabserve/.lock"):
        result = run("credit", "a.csv", "out/")
        assert result.exit_code == 1
        assert f"Another run writes to this destination (process {os.getpid()} on" in result.stderr
    assert run("credit", "a.csv", "out/").exit_code == 0


@pytest.mark.slow
def test_ctrl_c_ends_a_run_soon_and_leaves_no_part_of_a_file(run, records):
    write_csv("a.csv", records * 1000)
    process = scoring("credit", "a.csv", "out/", "--chunk", "1000")
    while not any(name.startswith(".a.csv.part-") for name in (names("out") if Path("out").exists() else ())):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "Interrupted."
    assert names("out") == [".tabserve"]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_killed_run_is_resumed_and_every_row_is_scored_once(run, records, artifact, executor):
    for number in range(12):
        write_csv(f"in/{number:02}.csv", records * 4)
    began = time.monotonic()
    with scoring("credit", "in", "whole", "--executor", executor) as process:
        process.communicate(timeout=120)
    whole = time.monotonic() - began
    for share in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9):
        process = scoring("credit", "in", "out", "--executor", executor, "--jobs", "2")
        time.sleep(share * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        for name in names("out") if Path("out").exists() else ():
            if name.endswith(".csv") and not name.startswith("."):
                assert len(read_csv(f"out/{name}")) == 4000
    result = run("credit", "in", "out")
    assert result.exit_code == 0, result.output
    assert summary(result)["rows"] == 48_000
    assert names("out") == [".tabserve", *(f"{number:02}.csv" for number in range(12))]
    for number in range(12):
        assert Path(f"out/{number:02}.csv").read_bytes() == Path(f"whole/{number:02}.csv").read_bytes()


def test_processes_give_what_threads_give(run, records):
    for name in ("a", "b"):
        write_csv(f"in/{name}.csv", records[:100])
    assert run("credit", "in", "threads").exit_code == 0
    result = run("credit", "in", "processes", "--executor", "processes", "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert Path("threads/a.csv").read_bytes() == Path("processes/a.csv").read_bytes()
    assert run("credit", "in", "x", "--executor", "spark").exit_code == 2


def test_a_query_of_a_database_is_scored(run, records, artifact):
    import sqlite3

    with sqlite3.connect("loans.db") as base:
        base.execute(f"create table loans ({', '.join(records[0])})")
        marks = ", ".join("?" * len(records[0]))
        base.executemany(f"insert into loans values ({marks})", [[*record.values()] for record in records[:20]])
    base.close()
    result = run("credit", "sqlite:///loans.db", "scores.parquet", "--query", "loans")
    assert result.exit_code == 0, result.output
    scores = pq.read_table("scores.parquet")
    assert scores["probability"].to_pylist() == expected(artifact, records[:20])["probability"]
    assert scores["age"].to_pylist() == [record["age"] for record in records[:20]]
    assert (
        "what a query gives may have changed"
        in run("credit", "sqlite:///loans.db", "scores.parquet", "--query", "loans").stderr
    )


def test_a_worker_that_does_not_see_the_model_says_so(artifact, tmp_path):
    with pytest.raises(ScoringError, match=f"{artifact.model_id} is not in the model registry as this worker sees it"):
        load(str(tmp_path / "empty"), artifact.model_id)


@pytest.mark.parametrize("name", ["credit", "bikes"])
def test_all_tasks_are_scored_like_the_service(run, trained, name):
    artifact = trained.load(trained.latest(name))
    some = [artifact.declared.example] * 3
    Path("a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in some))
    assert run(name, "a.jsonl", "b.jsonl").exit_code == 0
    answers = expected(artifact, some)
    assert [{key: row[key] for key in answers} for row in read_any("b.jsonl")] == [
        dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)
    ]


def test_scores_go_into_a_table_of_a_database_once(run, records, artifact):
    import sqlite3

    write_csv("in/a.csv", records[:30])
    write_csv("in/b.csv", [*records[30:49], {**records[0], "age": "old"}])
    arguments = ("credit", "in", "sqlite:///scores.db", "--table", "scores", "--partial")
    result = run(*arguments)
    assert result.exit_code == 3, result.output
    base = sqlite3.connect("scores.db")
    rows = base.execute("select age, probability from scores order by rowid").fetchall()
    assert rows[:49] == [
        (record["age"], probability)
        for record, probability in zip(records[:49], expected(artifact, records[:49])["probability"], strict=True)
    ]
    assert rows[49:] == [(None, None)]
    assert base.execute("select row, column from scores_errors").fetchall() == [(21, "age")]
    base.close()
    write_csv("in/c.csv", records[:5])
    again = summary(run(*arguments))
    assert [one["skipped"] for one in again["files"]] == [True, True, False]
    write_csv("in/a.csv", records[:3])
    assert "was made of in/a.csv before that changed: name another table" in run(*arguments).stderr
    base = sqlite3.connect("scores.db")
    assert base.execute("select count(*) from scores").fetchone() == (55,)
    base.close()


def test_a_source_at_fault_leaves_nothing_in_a_table(run, records):
    import sqlite3

    write_csv("a.csv", [*records, {**records[0], "age": "old"}])
    result = run("credit", "a.csv", "sqlite:///scores.db", "--table", "scores", "--chunk", "100")
    assert result.exit_code == 1
    base = sqlite3.connect("scores.db")
    assert [name for (name,) in base.execute("select name from sqlite_master where type = 'table'")] == [
        "scores_sources",
        "scores_errors",
    ]
    assert base.execute("select count(*) from scores_sources").fetchone() == (0,)
    base.execute("create table mine (age)")
    base.commit()
    base.close()
    for arguments, problem in (
        (("sqlite:///scores.db", "--table", "mine"), "The table mine exists, and this command did not write it"),
        (("sqlite:///scores.db",), "--table names the table to write"),
        (("out", "--table", "scores"), "--table names the table to write"),
        (("sqlite:///scores.db", "--table", "scores", "--overwrite"), "--overwrite replaces files only"),
        (("postgresql://127.0.0.1:1/x", "--table", "scores"), "The table scores cannot be written"),
        (("mysql://host/x", "--table", "scores"), "Databases of this kind cannot be"),
    ):
        result = run("credit", "a.csv", *arguments)
        assert result.exit_code == 1
        assert problem in result.stderr


def test_the_documents_examples_do_what_they_say(run, records):
    import sqlite3

    text = (ROOT / "docs" / "scoring.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    write_csv("loans.csv", records[:20])
    pq.write_table(pa.Table.from_pylist(records[:20]), "loans.parquet")
    for month in ("2023-12", "2024-01", "2024-02"):
        write_csv(f"monthly/{month}.csv", records[:20])
    with sqlite3.connect("loans.db") as base:
        base.execute(f"create table loans ({', '.join(records[0])})")
        marks = ", ".join("?" * len(records[0]))
        base.executemany(f"insert into loans values ({marks})", [[*record.values()] for record in records[:20]])
    base.close()
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    for command in commands:
        assert command[:2] == ["tabserve", "score"]
        result = run(*command[2:])
        assert result.exit_code == 0, result.output
    assert names("scores") == [".tabserve", "2023-12.csv", "2024-01.csv", "2024-02.csv"]
    assert names("some") == [".tabserve", "2024-01.csv", "2024-02.csv"]
    assert [*read_csv("some/2024-01.csv")[0]] == ["result", "probability"]
    assert "reason_3" in read_csv("why.csv")[0]
    assert len(commands) == 7
    (shown,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert [*json.loads(shown)] == [*summary(result)]
    assert [*json.loads(shown)["files"][0]] == [*summary(result)["files"][0]]
