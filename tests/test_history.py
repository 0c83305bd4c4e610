"""The rules of a history, without files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.registry.history import PROMOTE, SPLIT, WITHDRAW, Change, History, same_person

A, B, C = (f"credit-lightgbm_v1.0.0-179528760{place}.000000" for place in range(3))


def change(action: str, model_id: str, **more: object) -> Change:
    return Change(use_case="credit", action=action, model_id=model_id, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spelling",
    [
        "ANN LEÉ",
        " Ann  Leé ",
        "Ann\tLeé",
        "Ann Lee\u0301",  # the accent as a character of its own
        "Ａｎｎ Leé",  # wide letters  # noqa: RUF001
        "Ann\u00a0Leé",
        "A\u200bnn Leé\u2060",  # invisible
    ],
)
def test_one_person_is_one_however_the_name_is_written(spelling: str) -> None:
    assert same_person("Ann Leé", spelling)


@pytest.mark.parametrize("other", ["Ann Lee", "Anna Leé", "AnnLeé", "bob"])
def test_another_name_is_another_person(other: str) -> None:
    assert not same_person("Ann Leé", other)


@given(st.text(), st.text())
def test_whether_two_names_are_one_persons_does_not_depend_on_their_order_or_spaces(one: str, other: str) -> None:
    assert same_person(one, f"  {one}\n")
    assert same_person(one, other) == same_person(f" {other}", one)


def test_a_withdrawal_of_another_model_changes_nothing() -> None:
    proposed = change(PROMOTE, A, people=2)
    assert History("credit", (proposed, change(WITHDRAW, B))).state.proposed == proposed
    assert History("credit", (proposed, change(WITHDRAW, A))).state.proposed is None


def test_a_split_without_the_champion_changes_nothing() -> None:
    promoted = change(PROMOTE, A)
    without = change(SPLIT, C, shares={B: 90, C: 10})
    state = History("credit", (promoted, without)).state
    assert (state.split, set(state.approved), state.answering) == (None, {A}, (A,))
    with_it = change(SPLIT, C, shares={A: 90, C: 10})
    assert History("credit", (promoted, with_it)).state.answering == (A, C)


def test_what_is_proposed_stands_while_a_history_goes_on() -> None:
    first = change(PROMOTE, A, number=1)
    both = History("credit", (first, change(PROMOTE, B, number=2)))
    assert both.goes_on_from(History("credit", (first,)))
    assert both.goes_on_from(History("credit"))
    assert not History("credit", (first,)).goes_on_from(both)
    assert History("credit", (change(PROMOTE, C, number=3, begins=True),)).goes_on_from(both)
