"""Small charts, for a cell of a table or a line of text."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from tabserve.charts.small import BLOCKS, small_bars, small_blocks


def test_bars_are_as_high_as_their_share_of_the_highest() -> None:
    svg = ElementTree.fromstring(small_bars([1, 4, 0], 'Spread of "a" & <b>'))
    assert [bar.get("height") for bar in svg] == ["6.0", "24.0", "0.0"]
    assert [bar.get("y") for bar in svg] == ["18.0", "0.0", "24.0"]
    assert svg.get("aria-label") == 'Spread of "a" & <b>'


@given(st.lists(st.integers(0, 1000), min_size=1).filter(any))
def test_only_a_height_of_nothing_has_no_block(heights: list[int]) -> None:
    blocks = small_blocks(heights)
    assert [block == " " for block in blocks] == [height == 0 for height in heights]
    assert blocks[heights.index(max(heights))] == BLOCKS[-1]
