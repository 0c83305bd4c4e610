"""Spool files: what workers write before they answer."""

import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.decisions import spool as module
from tabserve.decisions.frames import MARK, find_frames, framed
from tabserve.decisions.ids import new_id
from tabserve.decisions.spool import SUFFIX, Spool
from tabserve.errors import DecisionLogFullError
from tests.conftest import wait_until

PAYLOAD = st.text(max_size=30).map(str.encode)
PAYLOADS = st.lists(PAYLOAD, max_size=8)
FRAMES = st.lists(st.lists(PAYLOAD, min_size=1, max_size=3), max_size=8)


@given(FRAMES, st.data())
def test_any_cut_of_a_file_yields_exactly_the_whole_frames(written: list[list[bytes]], data: st.DataObject) -> None:
    frames = [framed(*payloads) for payloads in written]
    content = b"".join(frames)
    cut = data.draw(st.integers(0, len(content)))
    ends = [sum(map(len, frames[: number + 1])) for number in range(len(frames))]
    whole = [payload for payloads, end in zip(written, ends, strict=True) if end <= cut for payload in payloads]
    last = max([0, *(end for end in ends if end <= cut)])

    growing = find_frames(content[:cut], is_whole=False)
    assert (growing.payloads, growing.end, growing.damaged) == (whole, last, [])
    ended = find_frames(content[:cut], is_whole=True)
    assert (ended.payloads, ended.end) == (whole, cut)
    assert b"".join(ended.damaged) == content[last:cut]


@given(PAYLOADS.filter(bool), st.data())
def test_a_damaged_frame_takes_no_other_with_it(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [*map(framed, payloads)]
    which = data.draw(st.integers(0, len(frames) - 1))
    place = data.draw(st.integers(0, len(frames[which]) - 1))
    damaged = bytearray(frames[which])
    damaged[place] ^= data.draw(st.integers(1, 255))
    if MARK in bytes(damaged[1:]):
        return  # no damage is known to make a mark of its own
    frames[which] = bytes(damaged)
    found = find_frames(b"".join(frames), is_whole=True)
    assert found.payloads == payloads[:which] + payloads[which + 1 :]
    assert b"".join(found.damaged) == bytes(damaged)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", 10_000_000)
    yield spool
    spool.close()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "spool").glob(f"*{SUFFIX}"))


def payloads_of(path: Path) -> list[bytes]:
    return find_frames(path.read_bytes(), is_whole=True).payloads


def is_finished(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_an_entry_is_in_the_file_at_once(spool: Spool, tmp_path: Path) -> None:
    assert files(tmp_path) == []
    spool.append(b"one")
    spool.append("zwölf".encode())
    (path,) = files(tmp_path)
    assert payloads_of(path) == [b"one", "zwölf".encode()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_a_file_is_locked_until_it_is_finished(spool: Spool, tmp_path: Path) -> None:
    spool.append(b"one")
    (path,) = files(tmp_path)
    assert not is_finished(path)
    spool.close()
    assert is_finished(path)


def test_a_long_file_is_finished_and_the_next_begun(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10_000_000)
    for _ in range(4):
        spool.append(b"x" * 90_000)
    assert len(files(tmp_path)) == 2
    wait_until(lambda: [*map(is_finished, files(tmp_path))] == [True, False], 5, "The file is not finished.")
    spool.close()


def test_an_old_file_is_finished(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OLDEST", 0.1)
    spool.append(b"one")
    wait_until(lambda: is_finished(files(tmp_path)[0]), 5, "The file is not finished.")
    spool.append(b"two")
    assert [payloads_of(path) for path in files(tmp_path)] == [[b"one"], [b"two"]]


def test_threads_share_a_file(spool: Spool, tmp_path: Path) -> None:
    def work(name: int) -> None:
        for number in range(200):
            spool.append(f"{name} {number}".encode())

    threads = [Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = files(tmp_path)
    assert sorted(payloads_of(path)) == sorted(f"{a} {b}".encode() for a in range(4) for b in range(200))


def test_only_so_much_may_wait(tmp_path: Path) -> None:
    spool, other = (Spool(tmp_path / "spool", 1000) for _ in range(2))
    spool.append(b"x" * 900)
    spool.append(b"x" * 900)  # the last one may go beyond
    assert spool.is_full
    with pytest.raises(DecisionLogFullError):
        spool.append(b"x")
    wait_until(lambda: other.is_full, 5, "Another worker does not see it.")
    with pytest.raises(DecisionLogFullError):
        other.write_table(new_id(), b"x")
    for path in files(tmp_path):
        path.unlink()
    wait_until(lambda: not spool.is_full, 5, "There is room again.")
    spool.append(b"x")
    for one in (spool, other):
        one.close()


@pytest.mark.parametrize("written", [0, 5, None], ids=["nothing", "a part", "an error"])
def test_a_full_disk_refuses_and_leaves_no_part(
    written: int | None,
    spool: Spool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool.append(b"one")
    write = os.write

    def full(file: int, content: bytes) -> int:
        if written is None:
            write(file, content[:3])
            raise OSError(28, "No space left on device")
        return write(file, content[:written])

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "write", full)
        for _ in range(2):
            with pytest.raises(DecisionLogFullError):
                spool.append(b"lost")
    spool.append(b"two")
    (path,) = files(tmp_path)
    found = find_frames(path.read_bytes(), is_whole=True)
    assert (found.payloads, found.damaged) == ([b"one", b"two"], [])
    assert [record.message for record in caplog.records] == ["decisions cannot be kept: No space left on device"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was forced to the disk: the kind of each."""
    synced: list[str] = []
    monkeypatch.setattr(module.os, "fdatasync", lambda file: synced.append("file"))
    monkeypatch.setattr(module.os, "fsync", lambda file: synced.append("folder"))
    return synced


def test_what_is_written_is_forced_to_the_disk_in_groups(tmp_path: Path, synced: list[str]) -> None:
    spool = Spool(tmp_path / "spool", 10_000)
    time.sleep(0.3)
    assert not synced
    for _ in range(50):
        spool.append(b"x")
    wait_until(lambda: "folder" in synced, 5, "Nothing is forced to the disk.")
    spool.append(b"x")
    wait_until(lambda: synced[-1] == "file", 5, "What came later is not forced to the disk.")
    time.sleep(0.3)
    assert synced.count("file") <= 3
    assert synced.count("folder") == 1
    spool.close()


def test_each_entry_is_forced_to_the_disk_before_it_counts(tmp_path: Path, synced: list[str]) -> None:
    spool = Spool(tmp_path / "spool", 10_000, syncs_each=True)
    spool.append(b"x")
    assert {"file", "folder"} <= {*synced}
    before = synced.count("file")
    spool.append(b"x")
    assert synced.count("file") > before
    spool.close()


def test_entries_that_wait_for_the_disk_go_there_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def slow(file: int) -> None:
        synced.append(file)
        time.sleep(0.1)

    monkeypatch.setattr(module.os, "fdatasync", slow)
    spool = Spool(tmp_path / "spool", 10_000, syncs_each=True)
    with ThreadPoolExecutor(16) as threads:
        assert [*threads.map(spool.append, [b"x"] * 16)] == [None] * 16
    assert len(synced) < 8
    (path,) = files(tmp_path)
    assert find_frames(path.read_bytes(), is_whole=True).payloads == [b"x"] * 16
    spool.close()


def test_what_cannot_be_forced_to_the_disk_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", 10_000, syncs_each=True)
    spool.append(b"one")

    def failing(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fdatasync", failing)
        with pytest.raises(DecisionLogFullError):
            spool.append(b"two")
    spool.append(b"three")
    spool.close()


def test_a_table_of_which_a_killed_worker_left_a_part_is_written_again(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool" / "the-id.new").write_bytes(b"a part that is longer")
    spool.write_table("the-id", b"content")
    assert (tmp_path / "spool" / "the-id.parquet").read_bytes() == b"content"


def test_a_table_is_there_as_a_whole(spool: Spool, tmp_path: Path) -> None:
    spool.write_table("the-id", b"content")
    assert (tmp_path / "spool" / "the-id.parquet").read_bytes() == b"content"
    spool.drop_table("the-id")
    assert [*(tmp_path / "spool").iterdir()] == []
