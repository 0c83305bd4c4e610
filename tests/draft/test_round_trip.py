"""A draft is a declaration: it round-trips, and the file that it was drafted from fits it."""

from datetime import date, timedelta
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tabserve.declaration.plain import from_plain, to_plain
from tabserve.draft.drafting import Draft
from tabserve.errors import DraftError
from tests.draft.tables import drafted

ROWS = 60

WORDS = st.text("abcdeXYZ ,;'\"\\#=äß", min_size=1, max_size=8)
DAYS = st.integers(0, 9000).map(lambda days: date(2000, 1, 1) + timedelta(days=days))
CELLS: tuple[st.SearchStrategy[str], ...] = (
    st.integers(-(10**6), 10**6).map(str),
    st.integers(0, 3).map(str),
    st.floats(-1e6, 1e6).map(lambda number: f"{number:.2f}"),
    st.floats(0, 1).map(lambda number: f"{number:.1%}"),
    st.integers(0, 10**7).map(lambda number: f"{number:,}"),
    st.integers(0, 99).map(lambda number: f"{number} km"),
    st.integers(0, 99999).map(lambda number: f"{number:05}"),
    st.sampled_from(["yes", "no"]),
    st.sampled_from(["nein", "ja"]),
    st.sampled_from(["low", "medium", "high"]),
    st.sampled_from(["Mon", "Tue", "Wed", "Sun"]),
    st.sampled_from(["APAC", "NA", "EMEA"]),
    DAYS.map(str),
    DAYS.map(lambda day: f"{day:%d.%m.%Y}"),
    DAYS.map(lambda day: f"{day:%d/%m/%Y %H:%M}"),
    WORDS,
    st.lists(WORDS, min_size=4, max_size=6).map(" ".join),
)
MARKED = st.sampled_from(["", " ", "?", "NA", "-999", "null", "-"])
NAMES = st.one_of(
    st.sampled_from(["id", "age", "Sex", "zip code", "customer_id", "date", "year", "name", "fnlwgt", "größe"]),
    st.text("abcXYZ_ .'\"#=äß1", min_size=1, max_size=8).map(str.strip).filter(bool),
)


@st.composite
def columns(draw: st.DrawFn) -> list[str]:
    cells = draw(st.sampled_from(CELLS))
    pool = draw(st.lists(st.one_of(cells, cells, cells, MARKED), min_size=1, max_size=ROWS))
    return [pool[row * 7 % len(pool)] for row in range(ROWS)]


@st.composite
def drafts(draw: st.DrawFn) -> tuple[Draft, dict[str, list[str]]]:
    table: dict[str, list[str]] = draw(st.dictionaries(NAMES, columns(), min_size=1, max_size=5))
    assume("y" not in map(str.casefold, table))
    table["y"] = draw(columns())
    try:
        return drafted(table), table
    except DraftError:
        assume(False)
        raise


@given(drafts())
def test_a_draft_is_a_declaration_that_round_trips(found: tuple[Draft, dict[str, list[str]]]) -> None:
    draft, _ = found
    use_case = from_plain(draft.plain(), draft.name)
    plain = to_plain(use_case)
    assert to_plain(from_plain(plain, draft.name)) == plain
    for name, line in draft.plain()["columns"].items():
        assert plain["columns"][name] == line


@settings(report_multiple_bugs=False)
@given(drafts())
def test_every_cell_of_the_file_fits_the_draft(found: tuple[Draft, dict[str, Any]]) -> None:
    draft, table = found
    use_case = from_plain(draft.plain(), draft.name)
    decimal = use_case.dialect.get("decimal", ".")
    for feature in (*use_case.features, *use_case.extras, use_case.target.feature):
        marked = feature.with_markers(use_case.markers)
        values = [marked.parse(cell, decimal) for cell in table[feature.name]]
        if feature is use_case.target.feature:  # rows without target are left out
            values = [value for value in values if value is not None]
        faults = [value for value in values if marked.problem(value)]
        assert not faults, (feature, faults[:3], draft.plain())
