"""In which format the dates of a column are written."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.draft.dates import formats_of, has_time, moments_of


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["2020-01-02", "2021-12-31"], ["%Y-%m-%d"]),
        (["03.04.2020"], ["%d.%m.%Y"]),
        (["31/01/2020", "01/02/2020"], ["%d/%m/%Y"]),
        (["01/31/2020", "01/02/2020"], ["%m/%d/%Y"]),
        (["03/04/2020"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (["2020-01-02 10:11:12"], ["%Y-%m-%d %H:%M:%S"]),
        (["2020-01-02T10:11"], ["%Y-%m-%dT%H:%M"]),
        (["2013-01-01T10:00:00Z"], ["%Y-%m-%dT%H:%M:%SZ"]),
        (["31.1.2020 5:07"], ["%d.%m.%Y %H:%M"]),
        (["05-Mar-2021"], ["%d-%b-%Y"]),
    ],
)
def test_every_format_that_all_texts_have_is_found(texts: list[str], formats: list[str]) -> None:
    assert formats_of(texts) == formats


@pytest.mark.parametrize(
    "texts", [["31/02/2020"], ["2020-01-02", "x"], ["12:30"], ["1.5"], ["3020-01-02"], ["2020-01-02", "03.04.2020"]]
)
def test_other_texts_are_no_dates(texts: list[str]) -> None:
    assert formats_of(texts) == []


@given(
    st.lists(st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1)), min_size=1),
    st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%d/%m/%Y %H:%M"]),
)
def test_dates_are_read_in_the_format_that_they_were_written_in(moments: list[datetime], one: str) -> None:
    texts = [moment.strftime(one) for moment in moments]
    assert one in formats_of(texts)
    expected = [datetime.strptime(text, one) for text in texts]
    assert moments_of(texts, one).tolist() == expected
    assert has_time(one) == (":" in one)
    assert moments_of(texts, one).dtype == np.dtype("datetime64[s]")
