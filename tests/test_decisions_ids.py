"""Ids of decisions: UUIDs of version 7 that ascend, whatever the clock and the threads do."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.decisions import ids as module
from tabserve.decisions.ids import id_of, new_id, new_ids


def test_ids_are_uuids_of_version_7_that_hold_the_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [*map(uuid.UUID, [new_id(), *new_ids(3)])]
    after = time.time_ns() // 1_000_000
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert all(before <= one.int >> 80 <= after for one in ids)


def test_ids_ascend_however_many_are_made_at_a_time() -> None:
    ids = [id_ for number in (1, 300, 0, 2, 50, 1) for id_ in new_ids(number)]
    assert len(ids) == 354
    assert ids == sorted({*ids})


def test_ids_ascend_when_the_clock_is_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    monkeypatch.setattr(module.time, "time_ns", lambda: 0)
    assert first < new_id() < new_id()


def test_a_clock_that_stands_for_long_leaves_no_id_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "time_ns", lambda: 0)
    monkeypatch.setattr(module._Last, "tail", module._FULL - 1)
    ids = [new_id() for _ in range(3)]
    assert ids == sorted({*ids})
    assert [str(uuid.UUID(id_)) for id_ in ids] == ids


def test_threads_make_different_ids() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = [id_ for some in threads.map(new_ids, [50] * 40) for id_ in some]
    assert len({*made}) == len(made) == 2000


@given(st.floats(0, 1e10), st.text())
def test_an_id_of_a_moment_and_a_text_is_always_the_same(seconds: float, seed: str) -> None:
    made = uuid.UUID(id_of(seconds, seed))
    assert (made.version, made.variant, made.int >> 80) == (7, uuid.RFC_4122, int(seconds * 1000))
    assert str(made) == id_of(seconds, seed) != id_of(seconds, seed + "x")
