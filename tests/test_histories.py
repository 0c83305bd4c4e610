"""Histories: who made which model answer, when and why; chained, signed, and approved by a second person."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tabserve.errors import (
    BrokenArtifactError,
    DivergedHistoryError,
    InvalidSplitError,
    NoEarlierChampionError,
    NotApprovedError,
    ReasonNeededError,
    UnsignedHistoryError,
)
from tabserve.registry.manifest import DataWarning
from tabserve.registry.registry import Registry
from tabserve.registry.signing import Keys
from tests.artifacts import copy_of

ODD = DataWarning("There are few rows.", "Collect more.")


@pytest.fixture(params=[None, "key"], ids=["unsigned", "signed"])
def keyed(registry: Registry, request: pytest.FixtureRequest) -> Registry:
    return Registry(registry.location, request.param)


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
