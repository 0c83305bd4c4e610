"""Histories: who made which model answer, when and why; chained, signed, and approved by a second person."""

import json
import logging
import random
import shutil
import string
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tabserve.errors import (
    BrokenArtifactError,
    BusyHistoryError,
    DivergedHistoryError,
    InvalidSplitError,
    NoEarlierChampionError,
    NotApprovedError,
    ReasonNeededError,
    UnknownModelError,
    UnsignedHistoryError,
)
from tabserve.registry.manifest import DataWarning
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import MODEL, Registry
from tabserve.registry.signing import Keys
from tests.artifacts import change_byte, copy_of

GOOD_ID = "credit-lightgbm_v1.0.0-1795287600.123456"
FAMILIAR = f"{string.ascii_letters}{string.digits}_-."  # the characters of model_ids
BIKES = "bikes-lightgbm_v1.0.0-1900000000.000000"
once_per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
ODD = DataWarning("There are few rows.", "Collect more.")


@pytest.fixture(params=[None, "key"], ids=["unsigned", "signed"])
def keyed(registry: Registry, request: pytest.FixtureRequest) -> Registry:
    return Registry(registry.location, request.param)


@pytest.fixture
def model_id(registry: Registry) -> str:
    return registry.latest("credit")


@pytest.fixture
def models(keyed: Registry) -> list[str]:
    """Three models, with the registry's signatures."""
    return [copy_of(keyed) for _ in range(3)]


def file_of(registry: Registry) -> Path:
    return Path(registry.location) / "credit.history"


def refused(registry: Registry) -> str:
    with pytest.raises(BrokenArtifactError) as error:
        Registry(registry.location, registry._signing_key).histories.champion("credit")
    return str(error.value)


def test_a_promotion_says_who_what_and_why(keyed: Registry, models: list[str]) -> None:
    keyed.histories.promote(models[0], "ann", "it costs less")
    (change,) = keyed.histories.of("credit").changes
    manifest = keyed.manifest(models[0])
    assert (change.action, change.model_id, change.by, change.reason) == ("promote", models[0], "ann", "it costs less")
    assert (change.digest, change.report) == (keyed.load(models[0]).digest, manifest.files["report.html"])
    assert (change.verdict, set(change.gates.values())) == ("passed", {"passed"})
    assert set(change.gates) == {gate.gate for gate in manifest.gates}
    assert change.champion == models[0]


def test_each_change_is_chained_to_the_one_before(keyed: Registry, models: list[str]) -> None:
    for model_id in models:
        keyed.histories.promote(model_id, "ann")
    lines = file_of(keyed).read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3]
    first, second, third = lines
    for without in ([second, third], [first, third], [second, first, third], [first, first, second, third]):
        file_of(keyed).write_bytes(b"".join(without))
        assert "does not follow the one before; promote a model again" in refused(keyed)
    file_of(keyed).write_bytes(first.replace(b'"ann"', b'"eve"') + second + third)
    assert "promote a model again" in refused(keyed)
    file_of(keyed).write_bytes(b"".join(lines)[:-1])
    assert "its last change is not whole" in refused(keyed)


def test_one_changed_byte_of_a_signed_history_is_refused(registry: Registry) -> None:
    signed = Registry(registry.location, "key")
    for _ in range(2):
        signed.histories.promote(copy_of(signed), "ann", "because")
    whole, generator = file_of(signed).read_bytes(), random.Random(7)
    for position in generator.sample(range(len(whole)), 150):
        changed = bytearray(whole)
        changed[position] ^= 1 << generator.randrange(7)
        file_of(signed).write_bytes(bytes(changed))
        assert "promote a model again" in refused(signed)


@pytest.mark.parametrize("key", ["another key", None])
def test_a_change_without_the_services_signature_is_refused(registry: Registry, key: str | None) -> None:
    signed = Registry(registry.location, "key")
    other = Registry(registry.location, key)
    other.histories.promote(copy_of(other))
    assert "not signed with this service's key; promote a model again" in refused(signed)


def test_who_has_no_key_cannot_break_a_signed_history(registry: Registry) -> None:
    signed = Registry(registry.location, "key")
    model_id = copy_of(signed)
    signed.histories.promote(model_id)
    for change in (
        lambda: registry.histories.promote(model_id),
        lambda: registry.delete(model_id),
        lambda: registry.histories.rollback("credit"),
    ):
        with pytest.raises((UnsignedHistoryError, NoEarlierChampionError)):
            change()
    assert signed.histories.champion("credit") == model_id
    signed.load(model_id)


def test_a_refused_history_begins_again_with_a_reason_and_loses_nothing(keyed: Registry, models: list[str]) -> None:
    keyed.histories.promote(models[0], "ann", "first")
    keyed.histories.promote(models[1], "ann", "second")
    broken = file_of(keyed).read_bytes().replace(b"first", b"worst")[:-1]
    file_of(keyed).write_bytes(broken)
    with pytest.raises(ReasonNeededError, match="--reason"):
        keyed.histories.promote(models[2])
    with pytest.raises(BrokenArtifactError):
        keyed.histories.rollback("credit")
    assert file_of(keyed).read_bytes() == broken
    keyed.histories.promote(models[2], "bob", "somebody changed the file")
    assert file_of(keyed).read_bytes().startswith(broken)
    (change,) = keyed.histories.of("credit").changes
    assert (change.number, change.begins, keyed.histories.champion("credit")) == (3, True, models[2])
    keyed.histories.promote(models[0])
    assert Registry(keyed.location, keyed._signing_key).histories.rollback("credit") == models[2]
    content = file_of(keyed).read_bytes()
    file_of(keyed).write_bytes(content.replace(b"worst", b"first"))
    assert "promote a model again" in refused(keyed)  # what no longer counts is kept as it is


def test_a_model_with_warnings_needs_a_reason(registry: Registry) -> None:
    odd = copy_of(registry, warnings=(ODD,))
    with pytest.raises(ReasonNeededError, match="passed with warnings: say by --reason why it may answer"):
        registry.histories.promote(odd, "ann")
    assert registry.histories.champion("credit") is None
    registry.histories.promote(odd, "ann", "more rows come in June")
    assert registry.histories.of("credit").changes[0].verdict == "passed with warnings"


# champions


def test_there_is_no_champion_until_one_is_promoted(registry: Registry, model_id: str) -> None:
    assert registry.histories.champion("credit") is None


def test_a_promoted_model_is_its_use_cases_champion_until_another_is(registry: Registry, model_id: str) -> None:
    new = copy_of(registry)
    registry.histories.promote(model_id)
    assert registry.histories.champion("credit") == model_id
    registry.histories.promote(new)
    assert registry.histories.champion("credit") == new


def test_each_use_case_has_a_champion_of_its_own(registry: Registry, model_id: str) -> None:
    other = copy_of(registry, BIKES, use_case="bikes")
    registry.histories.promote(model_id)
    registry.histories.promote(other)
    assert registry.histories.champion("credit") == model_id
    assert registry.histories.champion("bikes") == other


def test_a_champion_is_kept_by_the_folder_and_not_by_the_object(registry: Registry, model_id: str) -> None:
    registry.histories.promote(model_id)
    assert Registry(registry.location).histories.champion("credit") == model_id


def test_a_deleted_model_is_champion_no_more(registry: Registry, model_id: str) -> None:
    new = copy_of(registry)
    registry.histories.promote(new)
    registry.delete(new)
    assert registry.histories.champion("credit") is None


def test_deleting_another_model_leaves_the_champion(registry: Registry, model_id: str) -> None:
    new = copy_of(registry)
    registry.histories.promote(model_id)
    registry.delete(new)
    assert registry.histories.champion("credit") == model_id


def test_a_promotion_that_fails_leaves_the_champion(
    registry: Registry, model_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.histories.promote(model_id)
    new = copy_of(registry)

    def full(path: Path, content: bytes, mode: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tabserve.registry.stores._write", full)
    with pytest.raises(OSError, match="disk full"):
        registry.histories.promote(new)
    assert registry.histories.champion("credit") == model_id


@pytest.mark.parametrize("name", ["credit.history", "credit.champion"])
@pytest.mark.parametrize("content", [b"", b"credit", b"\xff", b"../credit-lightgbm_v1.0.0-1.000000", b"{}\n", b"[]\n"])
def test_a_champion_that_cannot_be_read_is_no_leave_to_serve_another(
    registry: Registry, model_id: str, name: str, content: bytes
) -> None:
    (Path(registry.location) / name).write_bytes(content)
    with pytest.raises(BrokenArtifactError, match=r"The champion of credit is refused: .*; promote a model again"):
        registry.histories.champion("credit")
    registry.histories.promote(model_id, reason="the file was damaged")
    assert registry.histories.champion("credit") == model_id


def test_a_signed_champion_is_known_where_no_key_is_set(registry: Registry) -> None:
    model_id = copy_of(Registry(registry.location, "key"))
    Registry(registry.location, "key").histories.promote(model_id)
    assert registry.histories.champion("credit") == model_id


def test_a_champion_is_copied_with_its_signature_by_whoever_has_no_key(registry: Registry, tmp_path: Path) -> None:
    model_id = copy_of(Registry(registry.location, "key"))
    Registry(registry.location, "key").histories.promote(model_id)
    keyless = Registry(tmp_path / "other")
    with pytest.raises(UnknownModelError):
        registry.histories.copy("credit", keyless.histories)
    registry.copy(model_id, keyless)
    registry.histories.copy("credit", keyless.histories)
    assert Registry(keyless.location, "key").histories.champion("credit") == model_id


# the champion before


@pytest.fixture(params=[None, "key"], ids=["unsigned", "signed"])
def promoted(registry: Registry, request: pytest.FixtureRequest) -> tuple[Registry, list[str]]:
    """A registry, and six of its models, each promoted after the other."""
    keyed = Registry(registry.location, request.param)
    model_ids = [copy_of(keyed) for _ in range(6)]
    for model_id in model_ids:
        keyed.histories.promote(model_id)
    return keyed, model_ids


def test_a_rollback_goes_back_one_champion_at_a_time_to_the_first(promoted: tuple[Registry, list[str]]) -> None:
    registry, model_ids = promoted
    for before in model_ids[-2::-1]:
        assert registry.histories.rollback("credit") == before
        assert registry.histories.champion("credit") == before
    with pytest.raises(NoEarlierChampionError):
        registry.histories.rollback("credit")
    assert registry.histories.champion("credit") == model_ids[0]


def test_after_a_rollback_the_model_it_left_is_not_gone_back_to(promoted: tuple[Registry, list[str]]) -> None:
    registry, model_ids = promoted
    registry.histories.rollback("credit")
    registry.histories.promote(model_ids[0])
    assert registry.histories.rollback("credit") == model_ids[-2]


def test_a_champion_that_is_promoted_again_is_not_the_one_before(promoted: tuple[Registry, list[str]]) -> None:
    registry, model_ids = promoted
    for _ in range(2):
        registry.histories.promote(model_ids[-1])
    assert registry.histories.rollback("credit") == model_ids[-2]


def test_a_rollback_passes_over_models_that_were_deleted(promoted: tuple[Registry, list[str]]) -> None:
    registry, model_ids = promoted
    registry.delete(model_ids[-2])
    assert registry.histories.champion("credit") == model_ids[-1]
    assert registry.histories.rollback("credit") == model_ids[-3]


def test_a_rollback_to_a_refused_model_changes_nothing(promoted: tuple[Registry, list[str]]) -> None:
    registry, model_ids = promoted
    change_byte(Path(registry.location) / model_ids[-2] / MODEL)
    with pytest.raises(BrokenArtifactError, match=model_ids[-2]):
        registry.histories.rollback("credit")
    assert registry.histories.champion("credit") == model_ids[-1]


def test_a_use_case_without_a_champion_has_none_before(registry: Registry, model_id: str) -> None:
    with pytest.raises(NoEarlierChampionError, match="no earlier champion of credit"):
        registry.histories.rollback("credit")
    registry.histories.promote(model_id)
    with pytest.raises(NoEarlierChampionError):
        registry.histories.rollback("credit")
    assert registry.histories.champion("credit") == model_id


def test_the_champions_before_are_copied_with_the_champion(
    promoted: tuple[Registry, list[str]], tmp_path: Path
) -> None:
    registry, model_ids = promoted
    other = registry.beside(tmp_path / "other")
    for model_id in model_ids[-2:]:
        registry.copy(model_id, other)
    registry.histories.copy("credit", other.histories)
    assert other.histories.rollback("credit") == model_ids[-2]


# from before there were histories


def write_champions(registry: Registry, *model_ids: str) -> None:
    """The file of champions as it was written, the newest first."""
    keys = Keys(registry._signing_key)
    lines = [line for name in model_ids for line in (name, keys.sign(f"champion {name}".encode()))]
    (Path(registry.location) / "credit.champion").write_text("\n".join(lines).rstrip("\n"))


def test_an_old_champions_file_is_a_history_without_reasons(keyed: Registry, models: list[str]) -> None:
    write_champions(keyed, models[1], models[0])
    assert (keyed.histories.champion("credit"), keyed.histories.of("credit").changes) == (models[1], ())
    assert keyed.use_cases() == ["bikes", "credit"]
    keyed.histories.promote(models[2], "ann")
    assert not (Path(keyed.location) / "credit.champion").exists()
    assert keyed.histories.of("credit").changes[0].earlier == (models[1], models[0])
    assert [keyed.histories.rollback("credit") for _ in range(2)] == [models[1], models[0]]


def test_an_old_champion_can_be_rolled_back(keyed: Registry, models: list[str]) -> None:
    write_champions(keyed, *models)
    assert keyed.histories.rollback("credit", "ann", "it is too slow") == models[1]
    assert keyed.histories.of("credit").changes[0].reason == "it is too slow"


def test_an_old_champion_that_is_not_signed_is_refused_until_one_is_promoted(registry: Registry) -> None:
    signed = Registry(registry.location, "key")
    first, last = copy_of(signed), copy_of(signed)
    write_champions(signed, last, first)
    path = Path(signed.location) / "credit.champion"
    path.write_text(path.read_text().replace(last, copy_of(signed), 1))
    assert "not signed with this service's key" in refused(signed)
    with pytest.raises(BrokenArtifactError, match="promote a model again"):
        signed.histories.rollback("credit")
    signed.histories.promote(first, "ann", "the file was changed")
    assert signed.histories.champion("credit") == first


@given(st.binary(max_size=120) | st.text(FAMILIAR + "\n", max_size=120).map(str.encode))
@example(f"{GOOD_ID}\n".encode())
@example(f"{GOOD_ID}\r\n".encode())
@once_per_example
def test_whatever_stands_in_a_champion_file_is_a_model_of_the_use_case_or_refused(
    registry: Registry, content: bytes
) -> None:
    (Path(registry.location) / "credit.champion").write_bytes(content)
    with suppress(BrokenArtifactError):
        champion = registry.histories.champion("credit")
        assert champion
        assert content.startswith(champion.encode())
        assert ModelId.parse(champion).use_case == "credit"
    with pytest.raises(BrokenArtifactError, match="promote a model again"):
        Registry(registry.location, "key").histories.champion("credit")


# a second person


@pytest.fixture
def two(keyed: Registry) -> Registry:
    return Registry(keyed.location, keyed._signing_key, approvals=2)


def test_with_two_people_a_promotion_waits_for_the_second(keyed: Registry, two: Registry, models: list[str]) -> None:
    keyed.histories.promote(models[0], "ann")
    assert two.histories.promote(models[1], "ann", "it is fairer").state.proposed is not None
    assert (two.histories.champion("credit"), keyed.histories.champion("credit")) == (models[0], models[0])
    for name in ("ann", " Ann", ""):
        with pytest.raises(NotApprovedError, match="another person must approve it"):
            two.histories.approve(models[1], name)
    with pytest.raises(NotApprovedError, match="not proposed"):
        two.histories.approve(models[2], "bob")
    two.histories.approve(models[1], "bob", "I have read its report")
    assert (two.histories.champion("credit"), keyed.histories.champion("credit")) == (models[1], models[1])
    assert two.histories.rollback("credit", "ann") == models[0]  # whoever is on call


def test_a_proposal_can_be_withdrawn_and_another_takes_its_place(two: Registry, models: list[str]) -> None:
    two.histories.promote(models[0], "ann")
    two.histories.withdraw(models[0], "bob", "its report is empty")
    with pytest.raises(NotApprovedError):
        two.histories.withdraw(models[0], "bob")
    with pytest.raises(NotApprovedError):
        two.histories.approve(models[0], "bob")
    two.histories.promote(models[1], "ann")
    two.histories.promote(models[2], "ann")
    with pytest.raises(NotApprovedError):
        two.histories.approve(models[1], "bob")
    assert two.histories.approve(models[2], "bob").state.champion == models[2]


def test_what_was_trained_again_since_it_was_proposed_is_not_approved(two: Registry, models: list[str]) -> None:
    two.histories.promote(models[0], "ann")
    manifest = two.manifest(models[0])
    files = {name: two.read(models[0], name, manifest) for name in manifest.files}
    two.delete(models[0])
    two.save(files, replace(manifest, seed=manifest.seed + 1))
    with pytest.raises(NotApprovedError, match="trained again"):
        two.histories.approve(models[0], "bob")


def test_one_person_alone_cannot_go_round_two_where_two_are_asked_for(
    keyed: Registry, two: Registry, models: list[str]
) -> None:
    two.histories.promote(models[0], "ann")
    two.histories.approve(models[0], "bob")
    keyed.histories.promote(models[1], "ann")  # by a command without APPROVALS
    assert two.histories.champion("credit") == models[0]
    two.histories.approve(models[1], "bob")
    assert two.histories.champion("credit") == models[1]


# shares


def test_a_split_is_of_the_champion_and_a_challenger_until_it_ends(keyed: Registry, models: list[str]) -> None:
    with pytest.raises(InvalidSplitError, match="promote a model first"):
        keyed.histories.split("credit", {models[0]: 90, models[1]: 10})
    keyed.histories.promote(models[0])
    for shares in (
        {models[0]: 90, models[1]: 11},
        {models[0]: 100},
        {models[1]: 50, models[2]: 50},
        {models[0]: 100, models[1]: 0},
    ):
        with pytest.raises(InvalidSplitError):
            keyed.histories.split("credit", shares)
    keyed.histories.split("credit", {models[1]: 10, models[0]: 90}, "ann", "does it hold?")
    state = keyed.histories.of("credit").state
    assert state.split is not None
    assert list(state.split.shares.items()) == [(models[0], 90), (models[1], 10)]
    assert set(state.approved) == set(models[:2])
    with pytest.raises(InvalidSplitError, match="end the split first"):
        keyed.delete(models[1])
    keyed.histories.end_split("credit", "ann")
    with pytest.raises(InvalidSplitError, match="not divided"):
        keyed.histories.end_split("credit", "ann")
    assert keyed.histories.of("credit").state.split is None


def test_a_promotion_or_a_rollback_ends_a_split(keyed: Registry, models: list[str]) -> None:
    keyed.histories.promote(models[0])
    for change in (lambda: keyed.histories.promote(models[1]), lambda: keyed.histories.rollback("credit")):
        keyed.histories.split("credit", {str(keyed.histories.champion("credit")): 50, models[2]: 50})
        change()
        assert keyed.histories.of("credit").state.split is None


def test_a_split_waits_for_a_second_person_too(keyed: Registry, two: Registry, models: list[str]) -> None:
    keyed.histories.promote(models[0])
    two.histories.split("credit", {models[0]: 90, models[1]: 10}, "ann")
    assert two.histories.of("credit").state.split is None
    assert two.histories.approve(models[1], "bob").state.split is not None
    two.histories.split("credit", {models[0]: 50, models[1]: 50}, "ann")
    keyed.histories.promote(models[1])
    two.histories.promote(models[1], "ann")
    two.histories.approve(models[1], "bob")
    with pytest.raises(NotApprovedError):
        two.histories.approve(models[1], "bob")


# together


def test_no_change_is_lost_when_many_come_at_once(keyed: Registry) -> None:
    models = [copy_of(keyed) for _ in range(8)]

    def promote(model_id: str) -> None:
        Registry(keyed.location, keyed._signing_key).histories.promote(model_id, "ann")

    with ThreadPoolExecutor(len(models)) as threads:
        list(threads.map(promote, models))
    changes = keyed.histories.of("credit").changes
    assert sorted(change.model_id for change in changes) == sorted(models)


def test_a_change_that_was_written_though_its_answer_was_lost_is_not_made_twice(
    keyed: Registry, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = keyed._store, Registry(keyed.location, keyed._signing_key)
    swap = store.swap

    def lose_the_answer(*arguments: Any) -> None:
        swap(*arguments)
        monkeypatch.undo()
        other.histories.promote(models[1], "bob")  # who is faster than the second attempt
        raise FileExistsError

    monkeypatch.setattr(store, "swap", lose_the_answer)
    assert keyed.histories.promote(models[0], "ann").state.champion == models[0]
    assert [change.by for change in keyed.histories.of("credit").changes] == ["ann", "bob"]


def test_a_history_that_is_written_meanwhile_is_not_lost_by_signing_or_copying(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = Registry(registry.location, "key")
    first, second = copy_of(signed), copy_of(signed)
    there = signed.beside(tmp_path / "there")
    for model_id in (first, second):
        signed.copy(model_id, there)
    signed.histories.promote(first)
    signed.histories.copy("credit", there.histories)

    for place, change in ((signed, lambda: signed.histories.sign("credit")),
                          (there, lambda: signed.histories.copy("credit", there.histories))):  # fmt: skip
        swap = place._store.swap

        def late(path: str, content: bytes, version: object, place: Registry = place, swap: Any = swap) -> None:
            monkeypatch.undo()
            Registry(place.location, "key").histories.promote(second, "bob")
            swap(path, content, version)

        monkeypatch.setattr(place._store, "swap", late)
        with pytest.raises(BusyHistoryError, match="Nothing was done; try again"):
            change()
        assert place.histories.of("credit").changes[-1].by == "bob"


def test_the_order_is_the_histories_whatever_the_clock_says(
    keyed: Registry, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turned(datetime):
        year_now = 2031

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            cls.year_now -= 1
            return datetime(cls.year_now, 1, 1, tzinfo=tz)

    monkeypatch.setattr("tabserve.registry.histories.datetime", Turned)
    for model_id in models:
        keyed.histories.promote(model_id, "ann")
    again = Registry(keyed.location, keyed._signing_key).histories
    assert [change.time[:4] for change in again.of("credit").changes] == ["2030", "2029", "2028"]
    assert [again.champion("credit"), again.rollback("credit")] == [models[2], models[1]]


def test_an_older_file_in_the_place_of_a_history_is_told_in_the_log(
    keyed: Registry, models: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    keyed.histories.promote(models[0])
    older = file_of(keyed).read_bytes()
    keyed.histories.promote(models[1])
    assert keyed.histories.champion("credit") == models[1]
    with caplog.at_level(logging.ERROR):
        file_of(keyed).write_bytes(file_of(keyed).read_bytes() + b"nonsense")
        keyed.histories.promote(models[2], reason="somebody changed the file")
        assert keyed.histories.champion("credit") == models[2]
        assert not caplog.messages  # it began again, and lost nothing
        file_of(keyed).write_bytes(older)
        assert keyed.histories.champion("credit") == models[0]
        assert "the history of credit lacks changes that it had" in caplog.messages[0]
        file_of(keyed).unlink()
        assert keyed.histories.champion("credit") is None
        assert "the history of credit is gone" in caplog.messages[1]


def test_an_unreadable_history_is_refused_and_not_written(keyed: Registry, models: list[str]) -> None:
    file_of(keyed).mkdir()
    with pytest.raises(BrokenArtifactError, match="its history cannot be read"):
        keyed.histories.promote(models[0], "ann", "the file was damaged")


@pytest.mark.parametrize("name", ["credit.history", "credit.champion"])
def test_nobody_answers_while_a_history_that_was_emptied_waits_for_the_second_person(
    two: Registry, models: list[str], name: str
) -> None:
    (Path(two.location) / name).write_bytes(b"")
    assert two.histories.promote(models[0], "ann", "the file was emptied").waits
    assert Registry(two.location, two._signing_key).histories.of("credit").waits
    assert not two.histories.approve(models[0], "bob").waits


def test_who_proposed_without_a_name_may_be_who_approves(two: Registry, models: list[str]) -> None:
    for nobody in ("", " ", "\u200b"):
        two.histories.promote(models[0], nobody)
        with pytest.raises(NotApprovedError, match="propose it again"):
            two.histories.approve(models[0], "ann")


def test_only_what_is_proposed_can_be_withdrawn(two: Registry, keyed: Registry, models: list[str]) -> None:
    keyed.histories.promote(models[0], "ann")
    two.histories.promote(models[1], "ann")
    two.histories.approve(models[1], "bob")
    two.histories.promote(models[2], "ann")
    for done in models[:2]:
        with pytest.raises(NotApprovedError, match="not proposed"):
            two.histories.withdraw(done, "bob")
    state = two.histories.of("credit").state
    assert (state.champion, state.proposed and state.proposed.model_id) == (models[1], models[2])


def test_a_rollback_of_a_rollback_goes_further_back_and_leaves_what_is_proposed(
    two: Registry, keyed: Registry, models: list[str]
) -> None:
    for model_id in models:
        keyed.histories.promote(model_id)
    two.histories.promote(models[2], "ann", "it was right after all")
    assert [two.histories.rollback("credit", "ann") for _ in range(2)] == [models[1], models[0]]
    assert two.histories.approve(models[2], "bob").state.champion == models[2]
    assert two.histories.rollback("credit") == models[0]


def test_a_rollback_goes_to_what_answered_before_and_not_to_what_has_its_name(
    keyed: Registry, models: list[str]
) -> None:
    for model_id in models[:2]:
        keyed.histories.promote(model_id)
    manifest = keyed.manifest(models[0])
    files = {name: keyed.read(models[0], name, manifest) for name in manifest.files}
    keyed.delete(models[0])
    keyed.save(files, replace(manifest, seed=manifest.seed + 1))
    with pytest.raises(BrokenArtifactError, match=f"{models[0]} .* not the one that was approved: promote it again"):
        keyed.histories.rollback("credit")
    assert keyed.histories.champion("credit") == models[1]


def test_a_champion_whose_files_are_gone_is_told_and_can_be_rolled_back(keyed: Registry, models: list[str]) -> None:
    for model_id in models[:2]:
        keyed.histories.promote(model_id)
    shutil.rmtree(Path(keyed.location) / models[1])
    assert keyed.histories.champion("credit") == models[1]
    assert f"{models[1]} does not exist; promote a model again" in str(keyed.histories.fault("credit"))
    assert keyed.histories.rollback("credit") == models[0]
    assert keyed.histories.fault("credit") is None


def test_a_split_is_copied_with_both_of_its_models(keyed: Registry, models: list[str], tmp_path: Path) -> None:
    keyed.histories.promote(models[0])
    keyed.histories.split("credit", {models[0]: 90, models[1]: 10})
    there = keyed.beside(tmp_path / "there")
    keyed.copy(models[0], there)
    with pytest.raises(UnknownModelError):
        keyed.histories.copy("credit", there.histories)
    keyed.copy(models[1], there)
    keyed.histories.copy("credit", there.histories)
    assert there.histories.of("credit").state.answering == (models[0], models[1])


def test_a_history_is_copied_unless_there_are_other_changes(keyed: Registry, models: list[str], tmp_path: Path) -> None:
    there = keyed.beside(tmp_path / "there")
    for model_id in models:
        keyed.copy(model_id, there)
    write_champions(there, models[2])
    keyed.histories.promote(models[0], "ann")
    keyed.histories.copy("credit", there.histories)
    keyed.histories.promote(models[1], "ann")
    keyed.histories.copy("credit", there.histories)
    assert (there.histories.champion("credit"), there.histories.rollback("credit")) == (models[1], models[0])
    with pytest.raises(DivergedHistoryError, match=f"promote {models[1]} there instead"):
        keyed.histories.copy("credit", there.histories)
    assert there.histories.champion("credit") == models[0]


# keys


def test_a_key_is_replaced_without_a_pause(registry: Registry) -> None:
    old, both, new = (Registry(registry.location, key) for key in ("old", "new,old", "new"))
    model_id = copy_of(old)
    old.histories.promote(model_id, "ann", "because")
    digest, changes = old.load(model_id).digest, old.histories.of("credit").changes
    assert "not signed" in refused(new)
    both.sign(model_id)
    both.histories.sign("credit")
    for key in (both, new):
        assert key.load(model_id).digest == digest
        assert key.histories.of("credit").changes == changes
    new.histories.promote(model_id)
    with pytest.raises(BrokenArtifactError):
        Registry(registry.location, "old").histories.of("credit")


def test_an_old_champions_file_is_signed_again(registry: Registry) -> None:
    old, both = Registry(registry.location, "old"), Registry(registry.location, "new,old")
    models = [copy_of(old) for _ in range(2)]
    write_champions(old, *models)
    both.histories.sign("credit")
    assert Registry(registry.location, "new").histories.of("credit").earlier == tuple(models)


def test_what_is_not_signed_is_signed_only_when_somebody_vouches_for_it(registry: Registry) -> None:
    signed, model_id = Registry(registry.location, "key"), registry.latest("credit")
    registry.histories.promote(model_id)
    for sign in (lambda: signed.sign(model_id), lambda: signed.histories.sign("credit")):
        with pytest.raises(BrokenArtifactError, match="not signed"):
            sign()
    signed.sign(model_id, vouched=True)
    signed.histories.sign("credit", vouched=True)
    signed.load(str(signed.histories.champion("credit")))


def test_a_history_that_begins_again_is_signed_again_from_there(registry: Registry) -> None:
    old = Registry(registry.location, "old")
    models = [copy_of(old) for _ in range(2)]
    old.histories.promote(models[0])
    file_of(old).write_bytes(b"nonsense\n")
    old.histories.promote(models[1], "ann", "the file was damaged")
    Registry(registry.location, "new,old").histories.sign("credit")
    assert Registry(registry.location, "new").histories.champion("credit") == models[1]
    assert file_of(old).read_bytes().startswith(b"nonsense\n")
