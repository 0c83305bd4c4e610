"""Matrices: in memory or, where there is not enough of it, on disk; the model is the same."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from tabserve.errors import NoRoomError
from tabserve.evaluation.metrics import roc_auc
from tabserve.models.lightgbm import LgbClassifier
from tabserve.training import matrices
from tabserve.training.matrices import available_memory, empty_matrix
from tabserve.training.parts import read, split


@pytest.fixture
def no_memory(monkeypatch, tmp_path):
    """No memory is left for a matrix; returns the folder of temporary files."""
    monkeypatch.setattr(matrices, "available_memory", lambda: 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_matrix_that_fits_is_in_memory():
    assert not isinstance(empty_matrix((10, 2)), np.memmap)


def test_a_matrix_that_does_not_fit_is_in_a_file_that_goes_with_it(no_memory):
    matrix = empty_matrix((1000, 3))
    matrix[:] = np.arange(3000).reshape(1000, 3)
    assert isinstance(matrix, np.memmap)
    assert matrix.sum() == sum(range(3000))
    assert [*no_memory.iterdir()] == []
    maps = Path("/proc/self/maps")
    assert str(no_memory) in maps.read_text()
    del matrix
    gc.collect()
    assert str(no_memory) not in maps.read_text()


def test_a_disk_without_room_is_one_sentence(no_memory, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoRoomError, match=r"^The encoded table takes 8 MB, .* \(No space left on device\): set TMPDIR"):
        empty_matrix((1_000_000, 1))


def test_what_a_container_has_left_is_its_limit_without_what_it_uses(monkeypatch, tmp_path):
    limit, used, of_machine = (tmp_path / name for name in ("limit", "used", "meminfo"))
    monkeypatch.setattr(matrices, "_LIMITS", ((limit, used, "anon"),))
    monkeypatch.setattr(matrices, "_MEMINFO", of_machine)
    assert available_memory() == np.inf
    of_machine.write_text("MemTotal:  9 kB\nMemAvailable:  8 kB\n")
    assert available_memory() == 8192
    used.write_text("anon 4000\nfile 5000\n")
    limit.write_text("6000\n")
    assert available_memory() == 2000
    limit.write_text("max\n")
    assert available_memory() == 8192


def test_a_model_of_a_matrix_on_disk_is_the_same(credit, monkeypatch, no_memory):
    monkeypatch.setattr("tabserve.models.lightgbm.MANY", 100)  # as of many rows: folds are parts of one dataset
    data = read(credit, credit.path)
    on_disk = split(credit, data, 42)
    monkeypatch.setattr(matrices, "available_memory", lambda: np.inf)
    in_memory = split(credit, data, 42)
    assert isinstance(on_disk.train.X, np.memmap)
    assert not isinstance(in_memory.train.X, np.memmap)
    columns = credit.encoder.fit().matrix_columns
    folds = [(np.arange(300), np.arange(300, 600)), (np.arange(300, 600), np.arange(300))]
    texts, judged = [], []
    for part in (on_disk.train, in_memory.train):
        model = LgbClassifier(num_rounds=20)
        judged.append(model.cross_validate(part.X, part.y, folds, roc_auc, 1, columns).out_of_fold)
        texts.append(model.fit(part.X, part.y, columns).text_)
    assert texts[0] == texts[1]
    np.testing.assert_array_equal(*judged)
