"""The registry: names, saving, verification, aliases."""

import hashlib
import json
import os
import pickle
import random
import string
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tabserve.registry.registry
import tabserve.registry.stores
from tabserve.errors import (
    BrokenArtifactError,
    NoHoldOutError,
    NoModelError,
    UnknownModelError,
)
from tabserve.registry.manifest import REPORT
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import MODEL, PIPELINE, TEST_TABLE, TRAIN_TABLE, Registry
from tabserve.registry.stores import ABANDONED_AFTER, MANIFEST, FolderStore
from tests.artifacts import change_byte, copy_of, edit_manifest

GOOD_ID = "credit-lightgbm_v1.0.0-1795287600.123456"
NO_IDS = (
    "",
    "latest",
    "credit",
    "../models",
    "..",
    "/etc/passwd",
    f"../{GOOD_ID}",
    f"{GOOD_ID}/..",
    f"{GOOD_ID}/manifest.json",
    f"{GOOD_ID}\n",
    f"{GOOD_ID}\0",
    f" {GOOD_ID}",
    f"{GOOD_ID} ",
    GOOD_ID.upper(),
    GOOD_ID.replace("credit", "Credit"),
    GOOD_ID.replace("_v", "_V"),
    GOOD_ID.replace("lightgbm", "1ightgbm"),
    GOOD_ID.replace("lightgbm", "light_gbm"),
    GOOD_ID.replace("1795287600", "١٧٩٥٢٨٧٦٠٠"),  # Arabic-Indic digits
    GOOD_ID.replace("1795287600", "１７９５２８７６００"),  # full-width digits  # noqa: RUF001
    GOOD_ID.replace("credit", "сredit"),  # a Cyrillic letter  # noqa: RUF001
    GOOD_ID.replace("1795287600", "-1795287600"),
    GOOD_ID.replace("1795287600", "1e9"),
    GOOD_ID.replace(".123456", ""),
    GOOD_ID.replace("v1.0.0", "v1.0"),
    GOOD_ID.replace("credit", "c" * 300),
)
FAMILIAR = f"{string.ascii_letters}{string.digits}_-."  # the characters of model_ids
once_per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def ids_are(registry: Registry, *model_ids: str) -> None:
    """Make folders that hold only a manifest."""
    for model_id in model_ids:
        (registry.location / model_id).mkdir(parents=True)
        (registry.location / model_id / MANIFEST).write_text("{}")


@pytest.fixture
def empty(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "none yet")


@pytest.fixture
def model_id(registry: Registry) -> str:
    return registry.latest("credit")


def reason(registry: Registry, model_id: str) -> str:
    """Why an artifact is refused; the reason never reveals where the registry is."""
    with pytest.raises(BrokenArtifactError) as refused:
        registry.load(model_id)
    assert refused.value.model_id == model_id
    assert "/" not in str(refused.value)
    return refused.value.reason


# names


def test_a_model_id_is_its_parts():
    assert ModelId.parse(GOOD_ID) == ModelId("credit", "lightgbm", "1.0.0", "1795287600.123456")


@given(st.from_regex(tabserve.registry.model_id.MODEL_ID, fullmatch=True))
def test_every_model_id_is_written_as_it_was_read(text):
    assert str(ModelId.parse(text)) == text


@given(st.text())
def test_no_random_text_is_a_model_id(text):
    assert ModelId.parse(text) is None


def test_an_algorithm_may_be_named_as_in_its_library():
    model_id = "bikes-DecisionTreeRegressor_v1.0.0-1.000000"
    assert ModelId.parse(model_id) == ModelId("bikes", "DecisionTreeRegressor", "1.0.0", "1.000000")


@given(st.integers(0, len(GOOD_ID)), st.characters(exclude_characters=FAMILIAR))
def test_a_model_id_with_a_foreign_character_in_it_is_none(position, character):
    assert ModelId.parse(GOOD_ID[:position] + character + GOOD_ID[position:]) is None


@pytest.mark.parametrize("name", NO_IDS)
def test_a_name_that_is_no_model_id_is_unknown_without_touching_the_disk(name):
    class NoDisk(type(Path())):
        def __truediv__(self, name: str) -> Path:
            raise AssertionError("the disk was touched")

    registry = Registry(NoDisk("models"))
    for method in (registry.check_exists, registry.manifest, registry.load, registry.delete):
        with pytest.raises(UnknownModelError):
            method(name)
    with pytest.raises(UnknownModelError):
        registry.histories.promote(name)


def test_a_model_id_that_is_not_there_is_unknown(registry):
    with pytest.raises(UnknownModelError):
        registry.load(GOOD_ID)


def test_an_unknown_names_error_does_not_repeat_it(registry):
    with pytest.raises(UnknownModelError) as error:
        registry.load("../../secret")
    assert "secret" not in str(error.value)


# list and latest


def test_models_are_listed_newest_first_by_timestamp_as_a_number(empty):
    oldest = "credit-lightgbm_v0.10.0-999999999.900000"  # nine digits: sorted as a text, it would come last
    middle = "credit-lightgbm_v0.9.0-1000000000.000000"
    newest = "credit-lightgbm_v0.10.0-1000000000.000001"
    ids_are(empty, middle, newest, oldest)
    assert empty.list() == [newest, middle, oldest]
    assert empty.latest("credit") == newest


def test_nine_seconds_are_before_ten(empty):
    ids_are(empty, "credit-a_v1.0.0-9.900000", "credit-a_v1.0.0-10.100000")
    assert empty.latest("credit") == "credit-a_v1.0.0-10.100000"


def test_the_version_does_not_decide_what_is_latest(empty):
    ids_are(empty, "credit-a_v0.10.0-5.000000", "credit-a_v0.9.0-6.000000")
    assert empty.latest("credit") == "credit-a_v0.9.0-6.000000"


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 999_999)), min_size=1, max_size=8, unique=True))
@settings(max_examples=20, deadline=None)
def test_the_latest_has_the_largest_timestamp(tmp_path_factory, times):
    registry = Registry(tmp_path_factory.mktemp("models"))
    ids_are(registry, *(f"credit-a_v1.0.0-{seconds}.{micros:06d}" for seconds, micros in times))
    seconds, micros = max(times)
    assert registry.latest("credit") == f"credit-a_v1.0.0-{seconds}.{micros:06d}"


def test_a_list_can_be_of_one_use_case(empty):
    ids_are(empty, "credit-a_v1.0.0-1.000000", "bikes-a_v1.0.0-2.000000")
    assert empty.list("credit") == ["credit-a_v1.0.0-1.000000"]
    assert len(empty.list()) == 2


def test_a_list_can_be_of_one_algorithm(empty):
    new, old = "bikes-SVR_v1.0.0-4.000000", "bikes-SVR_v1.0.0-2.000000"
    others = "bikes-Lasso_v1.0.0-5.000000", "bikes-svr_v1.0.0-3.000000", "credit-SVR_v1.0.0-6.000000"
    ids_are(empty, old, new, *others)
    assert empty.list("bikes", "SVR") == [new, old]
    assert empty.list(algorithm="SVR") == ["credit-SVR_v1.0.0-6.000000", new, old]
    assert empty.latest("bikes", "SVR") == new
    assert empty.latest("bikes") == "bikes-Lasso_v1.0.0-5.000000"


def test_an_algorithm_without_a_model_is_named(empty):
    ids_are(empty, "bikes-SVR_v1.0.0-1.000000", "credit-Lasso_v1.0.0-2.000000")
    assert empty.list("bikes", "Lasso") == []
    with pytest.raises(NoModelError, match="There is no bikes Lasso model yet"):
        empty.latest("bikes", "Lasso")


def test_the_algorithms_of_one_training_are_all_found(registry, bikes):
    models = [registry.latest("bikes", algorithm.name) for algorithm in bikes.algorithms]
    assert sorted(models) == sorted(registry.list("bikes"))
    assert [registry.manifest(model_id).algorithm for model_id in models] == [one.name for one in bikes.algorithms]


def test_an_artifact_without_a_manifest_does_not_exist(registry, model_id):
    (registry.location / model_id / MANIFEST).unlink()
    assert registry.list("credit") == []
    for method in (registry.load, registry.manifest, registry.histories.promote, registry.delete):
        with pytest.raises(UnknownModelError):
            method(model_id)


def test_other_things_in_the_folder_are_no_models(registry):
    before = registry.list()
    (registry.location / "notes.txt").write_text("")
    (registry.location / GOOD_ID).write_text("a file, not a folder")
    ids_are(registry, "backup of models")
    assert registry.list() == before


def test_a_registry_whose_folder_is_not_there_is_empty(empty):
    assert empty.list() == []
    assert empty.histories.champion("credit") is None
    with pytest.raises(NoModelError, match="no credit model yet"):
        empty.latest("credit")


# saving and deleting


def test_a_saved_artifact_is_what_was_given(registry, artifact, record):
    new = copy_of(registry)
    loaded = registry.load(new)
    assert loaded.model_id == new == registry.latest("credit")
    X = artifact.pipeline.transform([record])
    assert loaded.model.predict(X).tolist() == artifact.model.predict(X).tolist()
    assert loaded.target.transform([1, 2]).tolist() == [0.0, 1.0]
    assert loaded.features == artifact.features
    registry.load(new)


@pytest.mark.parametrize("key", [None, "key"])
def test_an_artifacts_digest_is_its_manifests_signed_or_not(registry, model_id, key):
    signed = copy_of(Registry(registry.location, key), model_id="credit-lightgbm_v1.0.0-1900000000.000000")
    written = json.loads((registry.location / signed / MANIFEST).read_text())
    assert registry.load(signed).digest == registry.load(signed).digest == written["digest"]
    assert registry.load(signed).digest != registry.load(model_id).digest


def test_a_manifest_has_the_protocol_and_the_digest_of_each_file(registry, model_id):
    manifest = registry.manifest(model_id)
    folder = registry.location / model_id
    assert json.loads((folder / MANIFEST).read_text())["protocol"] == tabserve.registry.registry.PROTOCOL
    assert manifest.files == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (PIPELINE, MODEL, TRAIN_TABLE, TEST_TABLE, REPORT)
    }
    assert {path.name for path in folder.iterdir()} == {*manifest.files, MANIFEST}


@pytest.mark.parametrize("failing", range(6))  # five files and the manifest
def test_a_write_that_fails_leaves_no_model(registry, model_id, monkeypatch, failing):
    written = []
    write = tabserve.registry.stores._write

    def fail_at_last(path: Path, content: bytes, mode: str) -> None:
        if len(written) == failing:
            write(path, content[: len(content) // 2], mode)
            raise OSError("disk full")
        written.append(path)
        write(path, content, mode)

    monkeypatch.setattr("tabserve.registry.stores._write", fail_at_last)
    with pytest.raises(OSError, match="disk full"):
        copy_of(registry)
    assert len(written) == failing
    assert not any(path.name == MANIFEST for path in written)
    assert registry.list("credit") == [model_id]
    registry.load(model_id)


def test_the_manifest_appears_last_and_by_renaming(registry, model_id, monkeypatch):
    rename = Path.replace
    moments = []

    def watch(self: Path, target: Path) -> Path:
        moments.append((target.name, registry.list("credit"), sorted(path.name for path in self.parent.iterdir())))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    new = copy_of(registry)
    ((name, listed, files),) = moments
    assert name == MANIFEST
    assert listed == [model_id]
    assert {PIPELINE, MODEL, TRAIN_TABLE, TEST_TABLE, REPORT} < set(files)
    assert MANIFEST not in files
    assert registry.list("credit") == [new, model_id]


def test_a_second_artifact_of_the_same_name_changes_nothing(registry, model_id):
    before = (registry.location / model_id / MANIFEST).read_bytes()
    with pytest.raises(FileExistsError):
        copy_of(registry, model_id, seed=7)
    assert (registry.location / model_id / MANIFEST).read_bytes() == before


def test_a_manifest_that_is_not_json_is_not_saved(registry, model_id):
    with pytest.raises(ValueError, match="JSON"):
        copy_of(registry, seed=float("nan"))
    assert registry.list("credit") == [model_id]


def test_delete_takes_the_manifest_first(registry, model_id, monkeypatch):
    unlink = Path.unlink

    def killed(self: Path, *arguments: Any) -> None:
        if self.name != MANIFEST:
            raise KeyboardInterrupt
        unlink(self, *arguments)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.delete(model_id)
    assert registry.list("credit") == []
    files = {PIPELINE, MODEL, TRAIN_TABLE, TEST_TABLE, REPORT}
    assert {path.name for path in (registry.location / model_id).iterdir()} == files


def test_a_deleted_artifact_is_gone(registry, model_id):
    new = copy_of(registry)
    registry.delete(new)
    assert registry.list("credit") == [model_id]
    assert not (registry.location / new).exists()
    with pytest.raises(UnknownModelError):
        registry.delete(new)


def test_a_broken_artifact_can_be_deleted(registry, model_id):
    (registry.location / model_id / MANIFEST).write_text("not JSON")
    registry.delete(model_id)
    assert registry.list("credit") == []


@pytest.mark.parametrize("failing", ["manifest.json"])
@pytest.mark.parametrize("key", [None, "key"])
def test_a_champion_whose_deletion_fails_keeps_its_title(registry, monkeypatch, failing, key):
    registry = Registry(registry.location, key)
    model_id = copy_of(registry)
    registry.histories.promote(model_id)
    unlink = Path.unlink

    def refuse(self: Path, *arguments: Any) -> None:
        if self.name == failing:
            raise PermissionError(13, "Permission denied")
        unlink(self, *arguments)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PermissionError):
        registry.delete(model_id)
    assert registry.histories.champion("credit") == model_id
    assert registry.load(model_id).model_id == model_id


def test_models_of_a_full_disk_can_be_deleted_but_for_the_last(registry, monkeypatch):
    def is_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", is_full)
    *others, last = registry.list()
    for model_id in others:
        registry.delete(model_id)
        assert not (registry.location / model_id).exists()
    with pytest.raises(OSError, match="No space left"):
        registry.delete(last)
    assert registry.list() == [last]


def test_half_written_files_are_swept_away_when_they_are_old(registry, model_id):
    folder = registry.location
    left = [folder / ".credit.champion.12.34", folder / model_id / ".manifest.json.12.34", folder / ".deleted.5.6"]
    for path in left:
        path.touch()
        os.utime(path, (0, 0))
    left[-1].touch()  # is being written
    (folder / ".hidden").touch()
    os.utime(folder / ".hidden", (0, 0))
    copy_of(registry)
    assert [path.exists() for path in (*left, folder / ".hidden")] == [False, False, True, True]


def test_saving_sweeps_away_what_killed_runs_left_long_ago_and_nothing_else(registry, model_id):
    abandoned, running, whole = (f"credit-a_v1.0.0-{second}.000000" for second in (1, 2, 3))
    for name in (abandoned, running, "something else"):
        (registry.location / name).mkdir()
        (registry.location / name / PIPELINE).write_bytes(b"")
    ids_are(registry, whole)
    long_ago = time.time() - ABANDONED_AFTER - 60
    for name in (abandoned, whole, model_id, "something else"):
        for path in (registry.location / name).iterdir():
            os.utime(path, (long_ago, long_ago))
    others = registry.list("bikes")
    new = copy_of(registry)
    left = {path.name for path in registry.location.iterdir()}
    assert left == {running, whole, model_id, new, *others, "something else"}


# verification


@pytest.mark.parametrize("name", [PIPELINE, MODEL])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@once_per_example
def test_one_changed_bit_of_a_pickle_is_refused(registry, name, position, bit):
    model_id = registry.latest("credit")
    path = registry.location / model_id / name
    whole = path.read_bytes()
    content = bytearray(whole)
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(bytes(content))
    try:
        assert reason(registry, model_id) == f"its file {name} is not the one that training wrote"
    finally:
        path.write_bytes(whole)
    registry.load(model_id)


@pytest.mark.parametrize("name", [PIPELINE, MODEL])
def test_a_missing_pickle_is_refused(registry, model_id, name):
    (registry.location / model_id / name).unlink()
    assert reason(registry, model_id) == f"its file {name} is missing"


@pytest.mark.parametrize("name", [PIPELINE, MODEL])
def test_an_emptied_pickle_is_refused(registry, model_id, name):
    (registry.location / model_id / name).write_bytes(b"")
    assert name in reason(registry, model_id)


HARMS = {"changed": change_byte, "emptied": lambda path: path.write_bytes(b"")}


@pytest.mark.parametrize("name", [TRAIN_TABLE, TEST_TABLE, REPORT])
@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_file_that_does_not_serve_harms_nobody_and_is_never_given_out(registry, model_id, name, harm):
    HARMS[harm](registry.location / model_id / name)
    manifest = registry.load(model_id).manifest
    for read in (lambda: registry.read(model_id, name, manifest), lambda: registry.verify(model_id)):
        with pytest.raises(BrokenArtifactError, match=f"its file {name} is not the one that training wrote"):
            read()


def test_a_model_is_loaded_from_its_manifest_and_its_pickles_alone(registry, model_id, monkeypatch):
    opened = []
    read = FolderStore.read
    monkeypatch.setattr(FolderStore, "read", lambda self, path, *more: opened.append(path) or read(self, path, *more))
    registry.load(model_id)
    assert sorted(opened) == sorted(f"{model_id}/{name}" for name in (MANIFEST, PIPELINE, MODEL))


def test_verifying_an_artifact_looks_at_all_of_its_files(registry, model_id):
    registry.verify(model_id)
    (registry.location / model_id / REPORT).unlink()
    with pytest.raises(BrokenArtifactError, match=f"its file {REPORT} is missing"):
        registry.verify(model_id)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_manifest_with_one_byte_changed_is_refused(registry, model_id, data):
    path = registry.location / model_id / "manifest.json"
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[position]))
    path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
    try:
        why = reason(registry, model_id)
        with pytest.raises(BrokenArtifactError) as refused:
            registry.manifest(model_id)
        assert refused.value.reason == why or why.startswith("it was written with")  # only load checks versions
    finally:
        path.write_bytes(whole)


EDITS = {
    "a better metric": lambda text: text.replace('"roc_auc": 0.', '"roc_auc": 0.9', 1),
    "an impossible metric": lambda text: text.replace('"roc_auc": 0.', '"roc_auc": NaN, "was": 0.', 1),
    "one more part": lambda text: text.replace("{", '{\n  "note": "edited",', 1),
    "other spaces": lambda text: json.dumps(json.loads(text)),
    "no digest": lambda text: json.dumps({**json.loads(text), "digest": None}, indent=2),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("key", [None, "key"])
def test_a_manifest_that_was_edited_is_refused_without_its_files(registry, edit, key):
    registry = Registry(registry.location, key)
    model_id = copy_of(registry)
    path = registry.location / model_id / MANIFEST
    written = path.read_text()
    assert registry.manifest(model_id).model_id == model_id
    path.write_text(EDITS[edit](written))
    assert path.read_text() != written
    with pytest.raises(BrokenArtifactError) as refused:
        registry.manifest(model_id)
    assert refused.value.model_id == model_id
    assert refused.value.reason in (
        "its manifest is not the one that training wrote",
        *(["its manifest is not signed with this service's key"] if key else []),
    )


def test_a_manifest_is_read_without_the_files(registry, model_id):
    (registry.location / model_id / MODEL).unlink()
    assert registry.manifest(model_id).model_id == model_id


@pytest.mark.parametrize("name", [TRAIN_TABLE, TEST_TABLE])
def test_an_artifact_without_its_rows_of_people_is_whole(registry, model_id, tmp_path, name):
    (registry.location / model_id / name).unlink()
    assert registry.load(model_id).model_id == model_id
    registry.verify(model_id)
    assert registry.copy(model_id, Registry(tmp_path / "other"))


def test_the_hold_out_is_what_training_wrote_or_not_here(registry, model_id):
    manifest = registry.manifest(model_id)
    path = registry.location / model_id / TEST_TABLE
    assert registry.hold_out(model_id, manifest) == path.read_bytes()
    path.unlink()
    with pytest.raises(NoHoldOutError, match="send a list of records"):
        registry.hold_out(model_id, manifest)


@pytest.mark.parametrize("hold_out", [True, False])
def test_a_copy_has_the_hold_out_when_it_shall(registry, model_id, tmp_path, hold_out):
    other = Registry(tmp_path / "other")
    registry.copy(model_id, other, hold_out=hold_out)
    assert (other.location / model_id / TEST_TABLE).exists() == hold_out
    assert not (other.location / model_id / TRAIN_TABLE).exists()
    other.verify(model_id)


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", [PIPELINE, MODEL])
def test_a_swapped_pickle_is_never_unpickled(registry, model_id, tmp_path, name):
    trace = tmp_path / "executed"
    harmful = pickle.dumps(Malicious(trace))
    (registry.location / model_id / name).write_bytes(harmful)
    reason(registry, model_id)
    assert not trace.exists()
    pickle.loads(harmful)
    assert trace.exists()  # loading it does leave the trace


def test_a_swapped_pickle_whose_digest_was_changed_too_is_never_unpickled_where_a_key_is_set(registry, tmp_path):
    signed = Registry(registry.location, "key")
    model_id = copy_of(signed)
    trace = tmp_path / "executed"
    harmful = pickle.dumps(Malicious(trace))
    (signed.location / model_id / MODEL).write_bytes(harmful)
    digests = {**signed.manifest(model_id).files, MODEL: hashlib.sha256(harmful).hexdigest()}
    edit_manifest(signed, model_id, files=digests)
    assert "not signed with this service's key" in reason(signed, model_id)
    assert not trace.exists()


def test_one_runs_pipeline_cannot_stand_beside_anothers_model(registry, model_id):
    other = replace(registry.manifest(model_id), model_id="credit-lightgbm_v1.0.0-1.000000")
    pipeline = pickle.dumps("another run's pipeline")
    registry.save({PIPELINE: pipeline, MODEL: pickle.dumps(None)}, other)
    (registry.location / model_id / PIPELINE).write_bytes(pipeline)
    assert PIPELINE in reason(registry, model_id)


def test_an_unpickling_that_fails_is_a_refusal(registry, model_id):
    harmful = b"not a pickle"
    (registry.location / model_id / MODEL).write_bytes(harmful)
    digests = {**registry.manifest(model_id).files, MODEL: hashlib.sha256(harmful).hexdigest()}
    edit_manifest(registry, model_id, files=digests)
    assert "cannot be loaded" in reason(registry, model_id)


class Ends:
    """Ends the program when it is unpickled, as a module that is a script does."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


def test_a_model_that_ends_the_program_is_refused_and_ends_nothing(registry, model_id):
    content = pickle.dumps(Ends())
    (registry.location / model_id / MODEL).write_bytes(content)
    digests = {**registry.manifest(model_id).files, MODEL: hashlib.sha256(content).hexdigest()}
    edit_manifest(registry, model_id, files=digests)
    assert "its pickles cannot be loaded (SystemExit)" in reason(registry, model_id)


def test_only_the_use_cases_that_are_served_are_seen(registry):
    served = Registry(registry.location, served=("bikes", "churn"))
    assert served.use_cases() == ["bikes"]
    assert served.list() == registry.list("bikes") != []
    assert served.list("credit") == []
    for use in (served.check_exists, served.manifest, served.load):
        with pytest.raises(UnknownModelError):
            use(registry.latest("credit"))
    assert served.load(served.latest("bikes")).manifest.use_case == "bikes"


@pytest.mark.parametrize("library", ["scikit-learn", "lightgbm"])
@pytest.mark.parametrize("version", ["0.0.1", None])  # None: the manifest does not say
def test_an_artifact_of_another_library_version_is_refused(registry, model_id, monkeypatch, library, version):
    libraries = registry.manifest(model_id).libraries
    installed = libraries[library]
    others = {name: of for name, of in libraries.items() if name != library}
    edit_manifest(registry, model_id, libraries={**libraries, library: version} if version else others)
    monkeypatch.setattr("joblib.load", lambda file: pytest.fail("unpickled before it was verified"))
    assert reason(registry, model_id) == f"it was written with {library} {version} and this service has {installed}"


@pytest.mark.parametrize("protocol", [4, 6, "5", None])
def test_an_artifact_of_another_protocol_is_refused(registry, model_id, protocol):
    edit_manifest(registry, model_id, protocol=protocol)
    said = f"it has protocol {protocol!r}, but this program reads 5: train it again"
    assert reason(registry, model_id) == said


def test_a_manifest_of_another_model_is_refused(registry, model_id):
    edit_manifest(registry, model_id, model_id=GOOD_ID)
    assert reason(registry, model_id) == "its manifest belongs to another model"


@pytest.mark.parametrize("key", [None, "key"])
def test_another_use_cases_model_under_this_ones_name_is_refused(registry, key):
    registry = Registry(registry.location, key)
    model_id = copy_of(registry, use_case="bikes")
    assert reason(registry, model_id) == "its manifest belongs to another use case"
    with pytest.raises(BrokenArtifactError, match="another use case"):
        registry.manifest(model_id)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b"null", b'"text"', b"{}", b'{"protocol": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_manifest_that_is_none_is_refused(registry, model_id, content):
    (registry.location / model_id / MANIFEST).write_bytes(content)
    assert reason(registry, model_id) == "its manifest cannot be read"


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize("levels", [33, 500, *range(900, 1000, 7)])
def test_a_manifest_of_many_levels_is_refused(registry, model_id, levels, key):
    path = registry.location / model_id / MANIFEST
    path.write_text(path.read_text().replace('"trials": [', f'"trials": [{"[" * levels}{"]" * levels},', 1))
    registry = Registry(registry.location, key)
    for method in (registry.load, registry.manifest, registry.verify):
        with pytest.raises(BrokenArtifactError, match="its manifest "):
            method(model_id)


@pytest.mark.parametrize("changes", [{"version": "\ud800"}, {"parameters": {"a": [{"\udfff": 1}]}}])
def test_a_manifest_with_half_a_character_is_refused(registry, model_id, changes):
    edit_manifest(registry, model_id, **changes)
    assert reason(registry, model_id) == "its manifest cannot be read"


@pytest.mark.parametrize("text", ["\n/etc", "\ud800", "é" * 1_000_000, {"a": "\ud800" * 1000}])
@pytest.mark.parametrize("part", ["libraries", "protocol"])
def test_an_error_repeats_little_of_a_manifest_and_only_what_can_be_written(registry, model_id, part, text):
    edit_manifest(registry, model_id, **{part: {"lightgbm": text} if part == "libraries" else text})
    with pytest.raises(BrokenArtifactError) as refused:
        registry.load(model_id)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("name", ["../evil.champion", "..", ".", "", "a/b", "/etc/passwd", "a\\b", "a\n", "\0"])
def test_a_manifest_that_names_files_elsewhere_is_refused(registry, model_id, tmp_path, name):
    files = json.loads((registry.location / model_id / MANIFEST).read_text())["files"]
    (registry.location / "evil.champion").write_bytes(b"evil")
    edit_manifest(registry, model_id, files={**files, name: hashlib.sha256(b"evil").hexdigest()})
    other = Registry(tmp_path / "other")
    with pytest.raises(BrokenArtifactError, match="holds invalid file names"):
        registry.copy(model_id, other)
    assert reason(registry, model_id) == "its manifest holds invalid file names"
    assert not list(tmp_path.glob("other/*"))


def make_huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [make_huge, make_pipe, make_device, make_folder])
@pytest.mark.parametrize("name", [MANIFEST, PIPELINE, MODEL])
def test_what_is_no_file_or_far_too_large_is_refused_and_read_by_nobody(registry, model_id, name, spoil):
    spoil(registry.location / model_id / name)
    described = "its manifest" if name == MANIFEST else f"its file {name}"
    assert reason(registry, model_id) == f"{described} cannot be read"


def test_a_manifest_of_megabytes_is_not_parsed(registry, model_id, monkeypatch):
    (registry.location / model_id / MANIFEST).write_bytes(b"[" * 5_000_001)
    monkeypatch.setattr(json, "loads", None)
    assert reason(registry, model_id) == "its manifest cannot be read"
    with pytest.raises(OSError, match="too large"):
        registry._store.read(f"{model_id}/{MANIFEST}")


@pytest.mark.parametrize("spoil", [make_huge, make_pipe, make_device, make_folder])
def test_a_champion_that_is_no_file_or_far_too_large_is_refused(registry, model_id, spoil):
    registry.histories.promote(model_id)
    spoil(registry.location / "credit.history")
    with pytest.raises(BrokenArtifactError, match="its history cannot be read"):
        registry.histories.champion("credit")


@pytest.mark.parametrize("name", ["loop", GOOD_ID])
def test_a_loop_of_links_takes_no_other_model_away(registry, model_id, name):
    (registry.location / name).symlink_to(name)
    assert registry.load(model_id).model_id == model_id
    assert model_id in registry.list("credit")
    assert registry.away is None


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *[("headline", None), ("headline", 5), ("groups", None), ("groups", []), ("intervals", None)],
        *[("champion", "credit-lightgbm_v1.0.0-1.000000"), ("champion", []), ("protected", False), ("protected", [])],
    ],
)
def test_a_manifest_without_what_its_readers_rely_on_is_refused(registry, model_id, part, value):
    edit_manifest(registry, model_id, **{part: value})
    assert reason(registry, model_id) == "its manifest is incomplete"


def test_a_model_need_not_have_had_a_champion_nor_protected_features(registry):
    model_id = copy_of(registry, champion=None, protected=None)
    manifest = registry.load(model_id).manifest
    assert (manifest.champion, manifest.protected) == (None, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(["files", "libraries", "hmac", "declaration", "protocol", "model_id"]), json_values)
@example("files", {"\0": ""})
@example("files", None)
@example("libraries", [])
@once_per_example
def test_whatever_stands_in_a_manifest_is_accepted_or_refused(registry, name, value):
    model_id = registry.latest("credit")
    path = registry.location / model_id / MANIFEST
    whole = path.read_bytes()
    edit_manifest(registry, model_id, **{name: value})
    try:
        with suppress(BrokenArtifactError):
            registry.load(model_id)
            assert name in ("hmac", "declaration") or value == json.loads(whole)[name]
    finally:
        path.write_bytes(whole)


# signatures


def test_a_signed_artifact_loads_with_its_key(registry):
    signed = Registry(registry.location, "key")
    model_id = copy_of(signed)
    signed.load(model_id)
    assert signed.load(model_id).model_id == model_id


def test_a_signed_artifact_loads_where_no_key_is_set(registry):
    model_id = copy_of(Registry(registry.location, "key"))
    assert registry.load(model_id).model_id == model_id


def test_an_unsigned_artifact_is_refused_where_a_key_is_set(registry, model_id):
    assert reason(Registry(registry.location, "key"), model_id) == "its manifest is not signed with this service's key"


def test_another_key_is_refused(registry):
    model_id = copy_of(Registry(registry.location, "key"))
    assert "not signed" in reason(Registry(registry.location, "other key"), model_id)


@pytest.mark.parametrize("signature", ["", "0" * 64, None, 5, "é", ["é"]])
def test_a_forged_signature_is_refused(registry, signature):
    signed = Registry(registry.location, "key")
    model_id = copy_of(signed)
    edit_manifest(signed, model_id, hmac=signature)
    assert "not signed" in reason(signed, model_id)


def test_a_changed_metric_breaks_the_signature(registry):
    signed = Registry(registry.location, "key")
    model_id = copy_of(signed)
    metrics = signed.manifest(model_id).metrics
    metrics = {**metrics, "hold_out": {**metrics["hold_out"], "roc_auc": 0.99}}
    edit_manifest(signed, model_id, metrics=metrics)
    assert "not signed" in reason(signed, model_id)


@given(st.randoms(use_true_random=False))
@once_per_example
def test_one_changed_byte_of_a_signed_manifest_is_refused_or_means_the_same(registry, generator: random.Random):
    signed = Registry(registry.location, "key")
    model_id = next((one for one in signed.list() if one == GOOD_ID), None) or copy_of(signed, GOOD_ID)
    path = signed.location / model_id / MANIFEST
    whole, manifest = path.read_bytes(), signed.manifest(model_id)
    content = bytearray(whole)
    content[generator.randrange(len(content))] = generator.randrange(256)
    path.write_bytes(bytes(content))
    try:
        with suppress(BrokenArtifactError):
            assert signed.manifest(model_id) == manifest
    finally:
        path.write_bytes(whole)


def test_the_key_is_not_in_the_manifest(registry):
    model_id = copy_of(Registry(registry.location, "a secret key"))
    assert b"a secret key" not in (registry.location / model_id / MANIFEST).read_bytes()
