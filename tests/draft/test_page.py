"""The page that shows a draft, and what the terminal shows of it."""

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from tabserve.draft.drafting import Draft
from tabserve.draft.page import render_draft
from tabserve.draft.shown import examples_of, heights_of, outline
from tabserve.draft.terminal import show_draft
from tests.draft.tables import ROWS, drafted, proposed, repeated, target

VOID = {"meta", "link", "br", "hr", "img", "input"}


@pytest.fixture(scope="module")
def draft() -> Draft:
    return drafted(
        {
            "customer_no": [f"{9000 + row}-Ada" for row in range(ROWS)],
            "a <b> & column with a long name": repeated(["1.5", "5", "9", "?"]),
            "sex": repeated(["male", "female"]),
            "signed": repeated(["2020-01-02", "2020-02-03", "2021-03-04"]),
            "email": [f"ada{row}@example.org" for row in range(ROWS)],
            "y": target(),
        }
    )


class Reader(HTMLParser):
    """Whether every tag is closed, and which tags and attributes there are."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_and_runs_nothing(draft: Draft) -> None:
    html = render_draft(draft)
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert "svg" in reader.tags
    assert not reader.tags & {"script", "iframe", "img", "object"}
    assert all(link.startswith(("#", "data:,")) for link in reader.loaded)
    assert "default-src 'none'" in html
    assert "url(" not in html


def test_the_page_shows_every_column_and_doubt(draft: Draft) -> None:
    html = render_draft(draft)
    assert "a &lt;b&gt; &amp; column with a long name" in html
    for number, doubt in enumerate(draft.doubts, 1):
        assert f'<th scope="row">{number}</th>' in html
        assert doubt.sentence.partition("“")[0].partition('"')[0].partition("'")[0] in html


def test_neither_page_nor_terminal_shows_who_somebody_is(draft: Draft) -> None:
    shown = render_draft(draft) + printed(draft)
    assert "9000" not in shown
    assert "ada0@" not in shown
    assert "aaa9@aaaaaaa.aaa" in shown


def printed(draft: Draft) -> str:
    console = Console(file=io.StringIO(), width=80)
    show_draft(console, draft)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_needs_80_columns_and_names_all(draft: Draft) -> None:
    text = printed(draft)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("customer_no", "sex", "signed", "y*", "date_part", "50 %", "What you must decide"):
        assert word in text if word != "50 %" else "25 %" in text
    assert re.search(rf"^ +{len(draft.doubts)}\. ", text, re.MULTILINE)


def test_an_outline_keeps_the_shape_only() -> None:
    assert outline("Müller-7 AG (42)") == "Aaaaaa-9 AA (99)"


def test_examples_are_the_most_frequent_values() -> None:
    assert examples_of(proposed("colour", repeated(["red", "blue", "red", "green"]))) == "red, blue, green"


@pytest.mark.parametrize(
    ("cells", "heights"),
    [
        (["5", "1", "1", "9"], [150, 75, 75]),
        (["high", "low", "low", "medium"], [150, 75, 75]),
        (["x", "y", "y", "z"], [150, 75, 75]),
    ],
)
def test_heights_follow_numbers_and_order_or_else_frequency(cells: list[str], heights: list[float]) -> None:
    assert heights_of(proposed("column", repeated(cells))) == heights
