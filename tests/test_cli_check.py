"""`tabserve check`: a declaration against its data."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tabserve.cli.commands import tabserve

LOANS = """\
title = "Small loans"
target = "default"

[columns]
age = {kind = "integer", low = 18, high = 99}
income = {kind = "number", low = 0, missing = true}
default = {kind = "category", values = ["no", "yes"]}
"""


def rows(number: int = 200) -> list[str]:
    return [f"{18 + row % 60},{'' if row % 4 == 0 else row},{'yes' if row % 3 == 0 else 'no'}" for row in range(number)]


def check(folder: Path, data: list[str], declared: str = LOANS, *options: str) -> Result:
    (folder / "loans.toml").write_text(declared)
    (folder / "loans.csv").write_text("\n".join(["age,income,default", *data]))
    return CliRunner().invoke(tabserve, ["check", str(folder / "loans.toml"), *options])


def test_a_declaration_that_fits_its_data_is_ready(tmp_path: Path) -> None:
    result = check(tmp_path, rows())
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == (
        "loans: Small loans. Binary of 'default' from columns: 2 given; by lightgbm, blend, linear, baseline linear."
    )
    assert "200 rows, every value valid." in result.output
    assert "Missing values: income 25.0%." in result.output
    assert "Outcomes: 133 no, 67 yes." in result.output
    assert "cross-validation in 10 folds, 2 times. Ready: tabserve train loans" in result.output


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([*rows(), "17,5,no", "18,5,maybe"], "Must be between 18 and 99"),
        (rows(20), "too few rows to train on"),
        ([row.replace("yes", "no") for row in rows()], "too few rows to train on: the training part has 0 of 'yes'"),
    ],
)
def test_data_that_do_not_fit_are_said(data: list[str], sentence: str, tmp_path: Path) -> None:
    result = check(tmp_path, data)
    assert result.exit_code == 1
    assert sentence in result.stderr


def test_rows_without_a_target_are_left_out_on_request(tmp_path: Path) -> None:
    data = [*rows(), "30,5,", "31,,"]
    assert "--drop-missing-target" in check(tmp_path, data).stderr
    result = check(tmp_path, data, LOANS, "--drop-missing-target")
    assert result.exit_code == 0
    assert "200 rows, every value valid. 2 without a target are left out." in result.output
    assert "Ready: tabserve train loans --drop-missing-target" in result.output


def test_a_mistake_in_the_declaration_is_said_with_its_line(tmp_path: Path) -> None:
    result = check(tmp_path, rows(), LOANS.replace("integer", "intger"))
    assert result.exit_code == 1
    assert result.stderr == "Error: loans.toml, line 5: the kind 'intger' is not known: did you mean 'integer'?\n"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(tabserve, ["check", str(tmp_path / "none.toml")])
    assert result.exit_code == 1
    assert result.stderr == "Error: none.toml cannot be read: No such file or directory.\n"


def test_a_use_case_is_checked_by_name() -> None:
    result = CliRunner().invoke(tabserve, ["check", "bikes"])
    assert result.exit_code == 0
    assert "17,379 rows, every value valid." in result.output
    assert "count: 1 to 977, median 142." in result.output


def test_an_unknown_name_is_mistyped() -> None:
    result = CliRunner().invoke(tabserve, ["check", "loans"])
    assert result.exit_code == 2
    assert "There is no such use case" in result.stderr
