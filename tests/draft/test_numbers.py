"""How the numbers of a column are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.draft.numbers import Style, decimal_of, style_of, values_of


@pytest.mark.parametrize(
    ("texts", "decimal", "style", "values"),
    [
        (["1", "-2.5", ".05", "3e2"], ".", Style("."), [1, -2.5, 0.05, 300]),
        (["59,56", "1"], ",", Style(","), [59.56, 1]),
        (["1,389", "12"], ".", Style(".", thousands=True), [1389, 12]),
        (["1.234,56", "7,5"], ",", Style(",", thousands=True), [1234.56, 7.5]),
        (["1 234", "12"], ".", Style(".", thousands=True), [1234, 12]),
        (["5%", "12.5 %"], ".", Style(".", unit="%"), [0.05, 0.125]),
        (["€ 5", "€ 7,5"], ",", Style(",", unit="€"), [5, 7.5]),
        (["12 km", "3 km"], ".", Style(".", unit="km"), [12, 3]),
        (["12km/h", "3km/h"], ".", Style(".", unit="km/h"), [12, 3]),
    ],
)
def test_numbers_are_read_as_they_are_written(
    texts: list[str], decimal: str, style: Style, values: list[float]
) -> None:
    assert style_of(texts, decimal) == style
    assert values_of(texts, style) == pytest.approx(values)


@pytest.mark.parametrize(
    "texts",
    [["C1", "C2"], ["12a", "13a"], ["5 km", "5 mi"], ["1", "x"], ["1,38"], ["€5€"], ["1.2.3"], ["2020-01-02"], ["1 2"]],
)
def test_codes_mixtures_and_other_texts_are_no_numbers(texts: list[str]) -> None:
    assert style_of(texts, ".") is None


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ([["1.5"], ["2"]], (".", True)),
        ([["59,56"], ["x"]], (",", True)),
        ([["1,389"], ["1.5"]], (".", True)),
        ([["1.389"], ["1,5"]], (",", True)),
        ([["1,389", "2"]], (".", False)),
        ([["a, b"]], (".", True)),
    ],
)
def test_the_decimal_sign_is_the_one_that_reads_the_columns(columns: list[list[str]], found: tuple[str, bool]) -> None:
    assert decimal_of(columns) == found


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.sampled_from(".,"))
def test_what_is_written_with_a_decimal_sign_is_read_with_it(numbers: list[float], decimal: str) -> None:
    texts = [f"{number:.3f}".replace(".", decimal) for number in numbers]
    style = style_of(texts, decimal)
    assert style is not None
    assert all(
        math.isclose(found, number, abs_tol=0.001)
        for found, number in zip(values_of(texts, style), numbers, strict=True)
    )
