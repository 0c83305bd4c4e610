"""`tabserve init`."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from click.testing import CliRunner, Result

from tabserve.cli.commands import tabserve
from tabserve.declaration.toml import read_declaration
from tabserve.training.parts import read, split
from tests.draft.tables import ROWS, repeated, target

LOANS: dict[str, Sequence[Any]] = {
    "Loan ID": [f"L-{1000 + row}" for row in range(ROWS)],
    "Amount": [f"{100 + row * 37 % 211}.50" for row in range(ROWS)],
    "Purpose": repeated(["car", "house", "boat"]),
    "Signed": repeated(["2020-01-02", "2020-02-03", "2021-03-04", "2021-05-09"]),
    "Age": repeated(["18", "75", "33", "?", "51"]),
    "Nothing": repeated([""]),
    "Default": target(),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, columns: dict[str, Sequence[Any]] = LOANS, separator: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tabserve, ["init", *arguments], terminal_width=80)


def test_a_draft_can_be_trained_as_it_is(folder: Path) -> None:
    write(folder / "Loans 2021.csv")
    result = run("Loans 2021.csv", "--target", "Default")
    assert result.exit_code == 0, result.output
    assert result.output.endswith("Then:\n  tabserve check loans_2021\n  tabserve train loans_2021\n")
    use_case = read_declaration(folder / "use_cases" / "loans_2021.toml")
    assert [feature.name for feature in use_case.features] == ["Amount", "Purpose", "Signed", "Age"]
    parts = split(use_case, read(use_case, use_case.path), 42)
    assert len(parts.whole.y) == ROWS


def test_the_declaration_says_what_was_seen_and_doubted_at_the_columns_line(folder: Path) -> None:
    write(folder / "loans.csv")
    run("loans.csv", "--target", "Default")
    text = (folder / "use_cases" / "loans.toml").read_text()
    assert "# seen: 18 to 75" in text
    before = text.partition("Nothing")[0].splitlines()[-1]
    assert "No row has a value" in before or "No row has a value" in text.partition("Nothing")[2].partition("\n")[0]


def test_the_page_stands_beside_the_declaration(folder: Path) -> None:
    write(folder / "loans.csv")
    run("loans.csv", "--target", "Default")
    assert sorted(path.name for path in (folder / "use_cases").iterdir()) == ["loans.data.html", "loans.toml"]
    assert "Loan ID" in (folder / "use_cases" / "loans.data.html").read_text()


@pytest.mark.parametrize(
    ("separator", "encoding"), [(";", "utf-8"), ("\t", "utf-8-sig"), ("|", "utf-16"), (";", "cp1252")]
)
def test_a_dialect_is_found_and_declared(folder: Path, separator: str, encoding: str) -> None:
    amounts = [amount.replace(".", ",") for amount in LOANS["Amount"]]
    columns = {**LOANS, "Amount": amounts, "Größe": [f"{row % 40},25" for row in range(ROWS)]}
    write(folder / "loans.csv", columns, separator, encoding)
    result = run("loans.csv", "--target", "Default")
    assert result.exit_code == 0, result.output
    use_case = read_declaration(folder / "use_cases" / "loans.toml")
    assert use_case.dialect["separator"] == separator
    assert use_case.dialect["decimal"] == ","
    assert len(read(use_case, use_case.path).table) == ROWS


def test_a_workbook_with_a_title_above_the_header_is_drafted(folder: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Loans of the last year"])
    sheet.append([])
    sheet.append(["Amount", "Express", "Default"])
    for row in range(ROWS):
        sheet.append([100 + row * 37 % 211, row % 3 == 0, target()[row]])
    book.save(folder / "loans.xlsx")
    result = run("loans.xlsx", "--target", "Default")
    assert result.exit_code == 0, result.output
    use_case = read_declaration(folder / "use_cases" / "loans.toml")
    assert [feature.kind for feature in use_case.features] == ["integer", "boolean"]
    assert len(read(use_case, use_case.path).table) == ROWS


def test_nothing_is_overwritten_without_force(folder: Path) -> None:
    write(folder / "loans.csv")
    (folder / "use_cases").mkdir()
    toml = folder / "use_cases" / "loans.toml"
    toml.write_text("mine")
    result = run("loans.csv", "--target", "Default")
    assert result.exit_code == 1
    assert "use_cases/loans.toml is there already" in result.output
    assert toml.read_text() == "mine"
    assert run("loans.csv", "--target", "Default", "--force").exit_code == 0
    assert toml.read_text() != "mine"


def test_another_name_and_folder(folder: Path) -> None:
    write(folder / "loans.csv")
    result = run("loans.csv", "--target", "Default", "--name", "credit_risk", "--output", "declared")
    assert "USE_CASES=declared tabserve train credit_risk" in result.output
    assert read_declaration(folder / "declared" / "credit_risk.toml").path.resolve() == folder / "loans.csv"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("loans.csv", "--target", "Defualt"), "There is no column 'Defualt': did you mean 'Default'?"),
        (("loans.csv", "--target", "Default", "--name", "Loans!"), "use lower-case letters"),
        (("loans.csv", "--target", "Default", "--name", "latest"), "means a model in URLs"),
        (("loans.csv", "--target", "Default", "--name", "credit"), "ships with Tabserve"),
        (("nowhere.csv", "--target", "Default"), "cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, arguments: Sequence[str], problem: str) -> None:
    write(folder / "loans.csv")
    result = run(*arguments)
    assert result.exit_code == 1
    assert problem in result.output
    assert not (folder / "use_cases").exists()
    assert len(result.output.splitlines()) == 1


def test_rows_without_target_are_named_in_the_next_command(folder: Path) -> None:
    write(folder / "loans.csv", {**LOANS, "Default": ["", *target()[1:]]})
    assert "tabserve train loans --drop-missing-target" in run("loans.csv", "--target", "Default").output
