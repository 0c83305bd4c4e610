"""The resolver: which model a name means."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tabserve import resolver as module
from tabserve.api.app import create_app
from tabserve.columns.carried import Id
from tabserve.errors import (
    BrokenArtifactError,
    NoApprovedModelError,
    NoDefaultUseCaseError,
    NoModelError,
    TabserveError,
    UnapprovedModelError,
    UnknownModelError,
    UnknownUseCaseError,
)
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact, Split
from tabserve.registry.registry import Registry
from tabserve.resolver import KEPT_MODELS, Readiness, Refresher, Resolver
from tabserve.settings import Settings
from tests.artifacts import NEW, OLD, change_byte, copy_of, edit_manifest
from tests.conftest import Server, running_server, wait_until

ALIASES = ("credit", "latest", "champion")


class CountingRegistry(Registry):
    """Counts how often each model was loaded."""

    def __init__(self, folder: Path, signing_key: str | None = None) -> None:
        super().__init__(folder, signing_key)
        self.loads: Counter[str] = Counter()

    def load(self, model_id: str) -> Artifact:
        self.loads[model_id] += 1
        return super().load(model_id)


@pytest.fixture
def counting(registry: Registry) -> CountingRegistry:
    return CountingRegistry(registry.location)


@pytest.fixture
def resolver(counting: CountingRegistry) -> Resolver:
    return Resolver(counting, "credit")


@pytest.fixture
def model_id(registry: Registry) -> str:
    return registry.latest("credit")


@pytest.fixture
def always_recheck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aliases are resolved again at every request."""
    monkeypatch.setattr(module, "RECHECK_AFTER", 0)


@pytest.fixture
def never_recheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECHECK_AFTER", 3600)


def break_model(registry: Registry, model_id: str) -> None:
    change_byte(registry.location / model_id / "model.pkl")


# loading and keeping


def test_nothing_is_loaded_before_it_is_asked_for(counting, resolver):
    assert counting.loads.total() == 0


@pytest.mark.usefixtures("always_recheck")
def test_a_model_is_loaded_once_by_whatever_name_it_is_asked_for(counting, resolver, model_id):
    counting.histories.promote(model_id)
    served = {id(resolver.resolve(name)) for name in (*ALIASES, model_id) * 3}
    assert len(served) == 1
    assert counting.loads == {model_id: 1}


def test_threads_that_ask_for_an_alias_at_once_load_its_model_once(counting, resolver, model_id):
    together = threading.Barrier(8)
    served = []

    def ask() -> None:
        together.wait()
        served.append(resolver.resolve("credit").model_id)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served == [model_id] * 8
    assert counting.loads == {model_id: 1}


@pytest.mark.usefixtures("never_recheck")
def test_an_alias_keeps_its_model_until_it_is_rechecked(counting, resolver, model_id):
    resolver.resolve("credit")
    new = copy_of(counting)
    assert resolver.resolve("credit").model_id == model_id
    assert resolver.resolve(new).model_id == new  # a model_id is found at once


def test_models_asked_for_by_id_are_kept_and_the_least_recently_used_is_given_up(counting, resolver, model_id):
    ids = [model_id, *(copy_of(counting) for _ in range(KEPT_MODELS))]
    for one in ids[:KEPT_MODELS] * 2:
        assert resolver.resolve(one).model_id == one
    assert set(counting.loads.values()) == {1}
    resolver.resolve(ids[0])  # now ids[1] is the least recently used
    resolver.resolve(ids[-1])
    resolver.resolve(ids[0])
    assert counting.loads[ids[0]] == 1
    resolver.resolve(ids[1])
    assert counting.loads[ids[1]] == 2


def test_a_model_that_is_served_predicts(resolver, record):
    assert 0 < make_prediction(resolver.resolve("credit"), [record]).predictions[0] < 1


# names


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_without_a_champion_means_the_latest(counting, resolver, model_id, name):
    new = copy_of(counting)
    assert resolver.resolve(name).model_id == new


@pytest.mark.parametrize(
    "name", ["", "nothing", "../models", "/etc/passwd", "CREDIT", "credit\0", "champions.json", "bikes2", "\u0661"]
)
def test_a_name_that_means_nothing_is_unknown(counting, resolver, name):
    with pytest.raises(UnknownModelError):
        resolver.resolve(name)
    assert counting.loads.total() == 0


def test_a_model_id_that_is_not_there_is_unknown(resolver):
    with pytest.raises(UnknownModelError):
        resolver.resolve("credit-lightgbm_v1.0.0-1.000000")


def test_a_model_of_a_use_case_that_is_declared_nowhere_is_served(counting, resolver):
    foreign = copy_of(counting, "weather-lightgbm_v1.0.0-1.000000", use_case="weather")
    for name in ("weather", foreign):
        assert resolver.resolve(name).model_id == foreign
    assert resolver.use_cases() == ["credit", "bikes", "weather"]


@pytest.mark.usefixtures("always_recheck")
def test_a_use_case_that_comes_later_is_served_and_one_that_goes_is_unknown(counting, resolver):
    with pytest.raises(UnknownModelError):
        resolver.resolve("weather")
    foreign = copy_of(counting, "weather-lightgbm_v1.0.0-1.000000", use_case="weather")
    assert resolver.resolve("weather").model_id == foreign
    assert foreign in resolver.readiness().models.values()
    counting.delete(foreign)
    with pytest.raises(NoModelError):
        resolver.resolve("weather")
    with pytest.raises(UnknownModelError):
        resolver.resolve("weather")
    assert "weather" not in resolver.readiness().unavailable


@pytest.mark.usefixtures("never_recheck")
def test_names_that_mean_nothing_are_looked_up_in_the_registry_once(counting, resolver, monkeypatch):
    lists: Counter[str] = Counter()
    use_cases = counting.use_cases
    monkeypatch.setattr(counting, "use_cases", lambda: lists.update(["asked"]) or use_cases())
    for name in ("nothing", "nobody", "a-malformed-name", "../models"):
        with pytest.raises(UnknownModelError):
            resolver.resolve(name)
    assert lists.total() == 1


# the default use case


def only(counting: CountingRegistry, tmp_path: Path, *use_cases: str) -> Registry:
    """A registry with a model of each of these use cases and no others."""
    registry = Registry(tmp_path / "some")
    for number, use_case in enumerate(use_cases, 1):
        model_id = copy_of(counting, f"{use_case}-lightgbm_v1.0.0-{number}.000000", use_case=use_case)
        counting.copy(model_id, registry)
    return registry


@pytest.mark.parametrize(
    ("held", "named", "default"),
    [
        (["weather"], None, "weather"),
        (["churn", "credit", "weather"], None, "credit"),
        (["churn", "credit", "weather"], "weather", "weather"),
    ],
)
def test_the_default_use_case_is_the_named_or_the_only_one_or_credit(counting, tmp_path, held, named, default):
    resolver = Resolver(only(counting, tmp_path, *held), named)
    assert resolver.default_use_case() == resolver.use_cases()[0] == default
    assert {resolver.resolve(alias).manifest.use_case for alias in ("latest", "champion")} == {default}


def test_of_several_use_cases_without_a_default_one_must_be_named(counting, tmp_path):
    resolver = Resolver(only(counting, tmp_path, "churn", "weather"))
    for alias in ("latest", "champion"):
        with pytest.raises(NoDefaultUseCaseError, match="name one of them, churn, weather, or set DEFAULT_USE_CASE"):
            resolver.resolve(alias)
    assert resolver.resolve("weather").manifest.use_case == "weather"


@pytest.mark.usefixtures("always_recheck")
def test_an_alias_that_has_become_ambiguous_means_no_model(counting, tmp_path):
    registry = only(counting, tmp_path, "churn")
    resolver = Resolver(registry)
    assert resolver.resolve("latest").manifest.use_case == "churn"
    counting.copy(copy_of(counting, "weather-lightgbm_v1.0.0-9.000000", use_case="weather"), registry)
    for _ in range(2):
        with pytest.raises(NoDefaultUseCaseError):
            resolver.resolve("latest")


@pytest.mark.parametrize("name", ["latest", "champion", "credit", "anything"])
def test_an_empty_registry_has_no_model_yet_whatever_is_asked(tmp_path, name):
    with pytest.raises(NoModelError, match=r"^There is no model yet; train one\.$"):
        Resolver(Registry(tmp_path / "none yet")).resolve(name)


@pytest.mark.usefixtures("always_recheck")
def test_of_many_use_cases_each_model_is_loaded_once(counting, resolver):
    names = [f"many_{number}" for number in range(KEPT_MODELS + 2)]
    for name in names:
        copy_of(counting, f"{name}-lightgbm_v1.0.0-1.000000", use_case=name)
    for _ in range(3):
        for name in names:
            assert resolver.resolve(name).manifest.use_case == name
    assert set(counting.loads.values()) == {1}


@pytest.mark.parametrize("name", ALIASES)
def test_a_use_case_without_a_model_says_so(tmp_path, name):
    with pytest.raises(NoModelError, match="no credit model yet"):
        Resolver(Registry(tmp_path / "none yet"), "credit").resolve(name)


def test_a_first_model_is_served_as_soon_as_there_is_one(counting, tmp_path, model_id):
    empty = Registry(tmp_path / "none yet")
    resolver = Resolver(empty, "credit")
    with pytest.raises(NoModelError):
        resolver.resolve("credit")
    shutil.copytree(counting.location / model_id, empty.location / model_id)
    assert resolver.resolve("credit").model_id == model_id


# new models, champions, deletion


@pytest.mark.usefixtures("always_recheck")
@pytest.mark.parametrize("name", ALIASES)
def test_a_newly_saved_model_is_served_without_a_restart(counting, resolver, model_id, name):
    assert resolver.resolve(name).model_id == model_id
    new = copy_of(counting)
    assert resolver.resolve(name).model_id == new


@pytest.mark.usefixtures("always_recheck")
def test_an_older_model_that_is_saved_later_changes_nothing(counting, resolver, model_id):
    copy_of(counting, f"credit-lightgbm_v9.0.0-{OLD}")
    assert resolver.resolve("credit").model_id == model_id


@pytest.mark.usefixtures("always_recheck")
def test_a_promotion_moves_what_the_use_case_serves_and_not_what_is_latest(counting, resolver, model_id):
    new = copy_of(counting)
    assert resolver.resolve("credit").model_id == new
    counting.histories.promote(model_id)
    assert {name: resolver.resolve(name).model_id for name in ALIASES} == {
        "credit": model_id,
        "champion": model_id,
        "latest": new,
    }
    counting.histories.promote(new)
    assert resolver.resolve("credit").model_id == new


@pytest.mark.usefixtures("always_recheck")
def test_a_deleted_champion_gives_way_to_the_latest(counting, resolver, model_id):
    new = copy_of(counting)
    counting.histories.promote(model_id)
    assert resolver.resolve("champion").model_id == model_id
    counting.delete(model_id)
    assert resolver.resolve("champion").model_id == new


@pytest.mark.usefixtures("always_recheck")
def test_a_deleted_model_is_unknown_though_it_was_loaded(counting, resolver, model_id):
    new = copy_of(counting)
    assert resolver.resolve(new).model_id == resolver.resolve("credit").model_id == new
    counting.delete(new)
    with pytest.raises(UnknownModelError):
        resolver.resolve(new)
    assert resolver.resolve("credit").model_id == model_id


@pytest.mark.usefixtures("always_recheck")
def test_a_use_case_whose_models_were_all_deleted_has_none(counting, resolver, model_id):
    resolver.resolve("credit")
    counting.delete(model_id)
    with pytest.raises(NoModelError):
        resolver.resolve("credit")


@pytest.mark.usefixtures("always_recheck")
def test_a_deleted_model_answers_no_thread_while_another_asks_the_registry(counting, resolver, model_id):
    resolver.resolve("credit")
    counting.delete(model_id)
    with pytest.raises(NoModelError):
        resolver.resolve("credit")
    asks, go_on = threading.Event(), threading.Event()
    list_ = counting.list

    def slow_list(*names: str) -> list[str]:
        asks.set()
        assert go_on.wait(30)
        return list_(*names)

    counting.list = slow_list
    with ThreadPoolExecutor() as pool:
        first = pool.submit(resolver.resolve, "credit")
        assert asks.wait(30)
        second = pool.submit(resolver.resolve, "credit")
        wait([second], timeout=0.2)
        go_on.set()
        for answer in (first, second):
            with pytest.raises(NoModelError):
                answer.result(30)


# broken artifacts


@pytest.mark.usefixtures("always_recheck")
@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.parametrize("loaded_before", [True, False])
def test_where_the_newest_is_broken_the_next_answers(counting, resolver, model_id, name, loaded_before):
    if loaded_before:
        resolver.resolve(name)
    broken = copy_of(counting, f"credit-lightgbm_v1.0.0-{NEW}")
    break_model(counting, broken)
    assert resolver.resolve(name).model_id == model_id
    assert resolver.resolve(name).model_id == model_id


@pytest.mark.usefixtures("always_recheck")
def test_a_broken_model_is_refused_by_id_with_the_reason_and_the_others_work(counting, resolver, model_id):
    broken = copy_of(counting)
    break_model(counting, broken)
    for _ in range(2):
        with pytest.raises(BrokenArtifactError, match="not the one that training wrote"):
            resolver.resolve(broken)
    assert resolver.resolve(model_id).model_id == model_id
    readiness = resolver.readiness()
    assert readiness.models["credit"] == model_id
    assert "credit" not in readiness.unavailable


def test_a_repaired_model_is_served(counting, resolver):
    broken = copy_of(counting)
    break_model(counting, broken)
    with pytest.raises(BrokenArtifactError):
        resolver.resolve(broken)
    break_model(counting, broken)  # the same bit again
    assert resolver.resolve(broken).model_id == broken


@pytest.mark.usefixtures("always_recheck")
def test_why_a_newer_model_does_not_answer_is_said(counting, resolver, model_id):
    assert resolver.readiness().refused == {}
    broken = copy_of(counting)
    break_model(counting, broken)
    assert list(resolver.readiness().refused) == ["credit"]
    assert broken in resolver.readiness().refused["credit"]
    counting.histories.promote(broken)
    assert broken in resolver.readiness().refused["credit"]
    counting.histories.promote(model_id)
    assert resolver.readiness().refused == {}


@pytest.fixture
def many_refused(counting) -> list[str]:
    """Three hundred models of another LightGBM version, all newer than the one that can be loaded."""
    source = counting.location / counting.latest("credit")
    libraries = {**counting.manifest(source.name).libraries, "lightgbm": "0.1"}
    ids = [f"credit-lightgbm_v1.0.0-{1_950_000_000 + number}.000000" for number in range(300)]
    for model_id in ids:
        (counting.location / model_id).mkdir()
        shutil.copy(source / "manifest.json", counting.location / model_id)
        edit_manifest(counting, model_id, model_id=model_id, libraries=libraries)
    return ids


@pytest.mark.usefixtures("always_recheck")
@pytest.mark.parametrize("usable", [True, False])
def test_refused_models_are_verified_once(counting, resolver, model_id, many_refused, usable):
    if not usable:
        many_refused.append(model_id)
        edit_manifest(counting, model_id, libraries={})
    for _ in range(3):
        for name in (*ALIASES, many_refused[0]):
            if usable and name in ALIASES:
                assert resolver.resolve(name).model_id == model_id
            else:
                with pytest.raises(BrokenArtifactError, match="it was written with lightgbm"):
                    resolver.resolve(name)
    assert set(counting.loads) == {model_id, *many_refused}
    assert set(counting.loads.values()) == {1}


@pytest.mark.usefixtures("always_recheck")
@pytest.mark.parametrize("name", ["manifest.json", "pipeline.pkl", "model.pkl"])
def test_a_refused_model_that_is_mended_is_verified_again(counting, resolver, model_id, name):
    broken = copy_of(counting)
    change_byte(counting.location / broken / name)
    for _ in range(2):
        assert resolver.resolve("credit").model_id == model_id
    assert counting.loads[broken] == 1
    change_byte(counting.location / broken / name)  # the same bit again
    assert resolver.resolve("credit").model_id == broken


@pytest.mark.usefixtures("always_recheck")
def test_a_refusal_is_not_for_ever(counting, resolver, model_id, monkeypatch):
    def too_little_memory(file: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "REFUSED_FOR", 1)
    newest = copy_of(counting)
    with monkeypatch.context() as patch:
        patch.setattr("joblib.load", too_little_memory)
        with pytest.raises(BrokenArtifactError, match="MemoryError"):
            resolver.resolve(newest)
    wait_until(lambda: resolver.resolve("credit").model_id == newest, 30, "it was never verified again")


@pytest.mark.usefixtures("always_recheck")
def test_what_is_served_stays_when_its_file_is_harmed_later(counting, resolver, model_id):
    resolver.resolve("credit")
    break_model(counting, model_id)
    assert resolver.resolve("credit").model_id == model_id


@pytest.mark.usefixtures("always_recheck")
def test_a_broken_champion_leaves_what_was_served(counting, resolver, model_id):
    oldest = copy_of(counting, f"credit-lightgbm_v1.0.0-{OLD}")
    newest = copy_of(counting)
    counting.histories.promote(oldest)
    assert resolver.resolve("credit").model_id == oldest
    counting.histories.promote(model_id)
    break_model(counting, model_id)
    assert resolver.resolve("credit").model_id == oldest
    assert resolver.resolve("latest").model_id == newest


def test_a_broken_champion_that_was_never_served_is_refused_and_nothing_stands_in(counting, resolver, model_id):
    copy_of(counting)
    counting.histories.promote(model_id)
    break_model(counting, model_id)
    with pytest.raises(BrokenArtifactError) as error:
        resolver.resolve("credit")
    assert error.value.model_id == model_id


def test_a_use_case_of_broken_models_gives_the_newest_ones_reason(counting, resolver, model_id):
    newest = copy_of(counting)
    break_model(counting, model_id)
    break_model(counting, newest)
    with pytest.raises(BrokenArtifactError) as error:
        resolver.resolve("credit")
    assert error.value.model_id == newest
    readiness = resolver.readiness()
    assert "credit" not in readiness.models
    assert newest in readiness.unavailable["credit"]
    assert "bikes" in readiness.models


def test_a_champion_whose_folder_was_taken_away_is_no_unknown_name(counting, resolver, model_id):
    copy_of(counting)
    counting.histories.promote(model_id)
    shutil.rmtree(counting.location / model_id)
    with pytest.raises(BrokenArtifactError, match="no longer exists"):
        resolver.resolve("credit")


@pytest.mark.parametrize("example", [{}, {"age": "old"}, 5])
def test_a_model_that_cannot_answer_its_own_example_is_refused(counting, resolver, model_id, example):
    declaration = {**counting.manifest(model_id).declaration, "example": example}
    edit_manifest(counting, model_id, declaration=declaration)
    with pytest.raises(BrokenArtifactError, match="cannot answer its own example"):
        resolver.resolve(model_id)


def test_unsigned_models_are_refused_where_a_key_is_set(registry, model_id):
    resolver = Resolver(Registry(registry.location, "key"), "credit")
    with pytest.raises(BrokenArtifactError, match="not signed"):
        resolver.resolve("credit")


@pytest.mark.parametrize("key", [None, "key"], ids=["unsigned", "signed"])
def test_another_use_cases_champion_answers_nothing(registry, key):
    counting = CountingRegistry(registry.location, key)
    other = copy_of(counting, "bikes-lightgbm_v1.0.0-1900000000.000000", use_case="bikes")
    counting.histories.promote(other)
    (counting.location / "bikes.history").rename(counting.location / "credit.history")
    for name in ("credit", "champion"):
        with pytest.raises(BrokenArtifactError, match="change 1 of its history is another use case's; promote a"):
            Resolver(counting, "credit").resolve(name)
    assert counting.loads.total() == 0


@pytest.mark.usefixtures("always_recheck")
def test_an_unsigned_champion_moves_nothing_where_a_key_is_set(registry):
    counting = CountingRegistry(registry.location, "key")
    old, new = copy_of(counting), copy_of(counting)
    resolver = Resolver(counting, "credit")
    counting.histories.promote(old)
    assert resolver.resolve("credit").model_id == old
    history = counting.location / "credit.history"
    history.write_text(history.read_text().replace(old, new))
    assert resolver.resolve("credit").model_id == old
    assert "not signed with this service's key; promote a model again" in resolver.readiness().refused["credit"]
    counting.histories.promote(new, reason="the history was changed")
    assert resolver.resolve("credit").model_id == new


def test_http_answers_a_broken_model_with_503_and_the_others_as_before(client, registry, model_id, record):
    broken = copy_of(registry)
    break_model(registry, broken)
    refused = client.post(f"/output/{broken}", json=record)
    assert refused.status_code == 503
    assert "not the one that training wrote" in refused.json["detail"]
    assert str(registry.location) not in refused.text
    for name in (model_id, "credit"):
        answer = client.post(f"/output/{name}", json=record)
        assert answer.status_code == 200
        assert answer.json["model"] == model_id
    assert client.get("/ready").json.get("models", {}).get("credit") == model_id


# what is known without asking the registry


class StuckRegistry(CountingRegistry):
    """A registry that does not answer while it is stuck, as a mount that hangs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers, self.is_asked = threading.Event(), threading.Event()
        self.answers.set()

    def _wait(self) -> None:
        if not self.answers.is_set():
            self.is_asked.set()
            assert self.answers.wait(60)

    def use_cases(self) -> list[str]:
        self._wait()
        return super().use_cases()

    def champion(self, use_case: str) -> str | None:
        self._wait()
        return super().champion(use_case)

    def check_exists(self, model_id: str) -> None:
        self._wait()
        super().check_exists(model_id)


@pytest.fixture
def stuck(registry: Registry) -> Iterator[StuckRegistry]:
    registry = StuckRegistry(registry.location)
    yield registry
    registry.answers.set()


@pytest.fixture
def refreshed(monkeypatch: pytest.MonkeyPatch, resolver: Resolver) -> Iterator[Resolver]:
    """A resolver that is refreshed ever so often by a thread."""
    monkeypatch.setattr(module, "RECHECK_AFTER", 0.01)
    refresher = Refresher(resolver)
    refresher.start()
    assert refresher.wait_for_first_look(30)
    yield resolver
    refresher.stop()
    refresher.join()


def loaded_id(resolver: Resolver, name: str) -> str | None:
    artifact = resolver.loaded(name)
    return artifact.model_id if artifact else None


@pytest.mark.parametrize("name", [*ALIASES, "bikes"])
def test_a_name_is_loaded_once_it_was_resolved(counting, resolver, name):
    assert resolver.loaded(name) is None
    assert counting.loads.total() == 0
    artifact = resolver.resolve(name)
    assert resolver.loaded(name) is artifact
    assert resolver.loaded(artifact.model_id) is None
    assert resolver.resolve(artifact.model_id) is resolver.loaded(artifact.model_id) is artifact


@pytest.mark.parametrize("name", ["", "nothing", "../models", "CREDIT", "credit\0", "credit-lightgbm_v1.0.0-1.000000"])
def test_a_name_that_means_nothing_is_never_loaded(resolver, name):
    with pytest.raises(UnknownModelError):
        resolver.resolve(name)
    assert resolver.loaded(name) is None


def test_of_the_models_requested_by_id_those_used_last_stay_loaded(counting, resolver, model_id):
    ids = [model_id, *(copy_of(counting) for _ in range(KEPT_MODELS))]
    for one in ids[:KEPT_MODELS]:
        resolver.resolve(one)
    assert loaded_id(resolver, ids[0]) == ids[0]  # now ids[1] is the least recently used
    resolver.refresh()  # uses none
    resolver.resolve(ids[-1])
    assert [one for one in ids if resolver.loaded(one) is None] == [ids[1]]


def test_a_model_that_answers_by_another_name_is_not_loaded_twice_and_stays(counting, resolver, model_id):
    assert resolver.resolve("credit") is resolver.resolve(model_id)
    for _ in range(KEPT_MODELS):
        resolver.resolve(copy_of(counting, f"credit-lightgbm_v1.0.0-{counting.loads.total()}.000000"))
    assert loaded_id(resolver, "credit") == model_id
    assert resolver.resolve(model_id).model_id == model_id
    assert counting.loads[model_id] == 1


def test_nothing_is_known_before_the_first_look(resolver):
    assert resolver.known_readiness() is None
    assert resolver.known_readiness(["credit"]) is None


def test_what_is_known_is_what_a_look_finds(counting, resolver, model_id):
    break_model(counting, counting.latest("bikes"))
    broken = copy_of(counting)
    break_model(counting, broken)
    resolver.refresh()
    assert resolver.known_readiness() == resolver.readiness()
    for use_case in ("credit", "bikes"):
        assert resolver.known_readiness([use_case]) == resolver.readiness([use_case])
    assert list(resolver.known_readiness(["credit"]).refused) == ["credit"]
    assert resolver.known_readiness(["nothing"]) is resolver.known_readiness(["credit", "latest"]) is None


def test_a_thread_sees_what_comes_and_goes(counting, refreshed, model_id):
    for name in (*ALIASES, model_id):
        refreshed.resolve(name)
    new = copy_of(counting)
    wait_until(lambda: {loaded_id(refreshed, name) for name in ALIASES} == {new}, 30, "the new model is not served")
    assert refreshed.resolve(new) is refreshed.loaded(new)
    foreign = copy_of(counting, "weather-lightgbm_v1.0.0-1.000000", use_case="weather")
    wait_until(lambda: loaded_id(refreshed, "weather") == foreign, 30, "the new use case is not served")
    wait_until(lambda: refreshed.known_readiness(["weather"]), 30, "the new use case is not ready")
    counting.histories.promote(model_id)
    wait_until(lambda: loaded_id(refreshed, "credit") == model_id, 30, "the promotion is not seen")
    for one in (new, foreign):
        counting.delete(one)
    gone = (new, foreign, "weather")
    wait_until(lambda: not any(map(refreshed.loaded, gone)), 30, "what was deleted is still loaded")
    wait_until(lambda: refreshed.known_readiness(["weather"]) is None, 30, "what was deleted is still ready")
    assert loaded_id(refreshed, model_id) == loaded_id(refreshed, "latest") == model_id


def test_a_registry_that_hangs_takes_nothing_away_that_is_loaded(stuck, model_id, monkeypatch):
    monkeypatch.setattr(module, "RECHECK_AFTER", 0.01)
    monkeypatch.setattr(module, "LATE_AFTER", 0.05)
    resolver = Resolver(stuck, "credit")
    names = (*ALIASES, model_id, "bikes")
    models = {name: resolver.resolve(name) for name in names}
    refresher = Refresher(resolver)
    refresher.start()
    assert refresher.wait_for_first_look(30)
    well = resolver.known_readiness()
    stuck.answers.clear()
    assert stuck.is_asked.wait(30)
    wait_until(lambda: resolver.known_readiness().registry == "away", 30, "nobody says that the registry hangs")
    assert resolver.known_readiness().models == well.models
    assert {name: resolver.loaded(name) for name in names} == models
    with ThreadPoolExecutor() as pool:  # nor does anyone wait for it
        asked = [pool.submit(resolver.resolve, name) for name in names]
        assert [one.result(30) for one in asked] == list(models.values())
        assert pool.submit(resolver.use_cases).result(30) == ["credit", "bikes"]
    stuck.answers.set()
    wait_until(lambda: resolver.known_readiness() == well, 30, "it was not seen that the registry answers again")
    refresher.stop()
    refresher.join()


def test_a_thread_lives_through_whatever_goes_wrong_and_says_it_once(counting, refreshed, monkeypatch, caplog):
    rounds = Counter()

    def fail() -> list[str]:
        rounds["failed"] += 1
        raise ZeroDivisionError("hunter2")

    with monkeypatch.context() as patch:
        patch.setattr(counting, "use_cases", fail)
        wait_until(lambda: rounds["failed"] > 3, 30, "the thread ended")
    new = copy_of(counting)
    wait_until(lambda: loaded_id(refreshed, "credit") == new, 30, "the thread ended")
    (said,) = [line for line in caplog.messages if line.startswith("unexpected")]
    assert said.startswith("unexpected ZeroDivisionError at")
    assert "hunter2" not in said


# what is ready


@pytest.mark.parametrize(
    ("readiness", "problem"),
    [
        (Readiness({"credit": "x"}), None),
        (Readiness({"credit": "x"}, {"bikes": "It is refused."}), None),
        (Readiness({}, {"bikes": "It is refused."}), "Not ready: no usable model for bikes."),
        (Readiness(), "Not ready. There is no model yet; train one."),
        (
            Readiness({"credit": "x"}, {"churn": "None yet.", "bikes": "It is refused."}, missing=("churn",)),
            "Not ready: the registry holds no model of churn.",
        ),
    ],
)
def test_a_service_is_ready_while_it_answers_something_unless_a_use_case_is_missing(readiness, problem):
    assert readiness.problem == problem


@pytest.fixture
def serving(registry: Registry) -> Resolver:
    return Resolver(Registry(registry.location, served=("credit", "churn")))


def test_only_what_is_named_is_served(serving, registry, model_id):
    assert serving.use_cases() == ["credit", "churn"]
    assert serving.resolve("latest").model_id == model_id
    for name in ("bikes", *registry.list("bikes")):
        with pytest.raises(UnknownModelError):
            serving.resolve(name)
    with pytest.raises(UnknownUseCaseError, match="choose one of: credit, churn"):
        serving.check_use_case("bikes")
    with pytest.raises(NoModelError, match="There is no churn model yet"):
        serving.resolve("churn")


def test_a_named_use_case_without_any_model_makes_the_whole_not_ready(serving, registry):
    readiness = serving.readiness()
    assert readiness.problem == "Not ready: the registry holds no model of churn."
    assert (list(readiness.models), list(readiness.unavailable)) == (["credit"], ["churn"])
    assert serving.readiness(["credit"]).problem is None
    assert serving.readiness(["churn"]).problem is not None
    serving.refresh()
    for use_cases in ([], ["credit"], ["churn"]):
        assert serving.known_readiness(use_cases).problem == serving.readiness(use_cases).problem
    model = copy_of(registry, "churn-lightgbm_v1.0.0-1.000000", use_case="churn")
    wait_until(lambda: serving.readiness().problem is None, 30, "the model that came is not seen")
    assert serving.readiness().models["churn"] == model


@pytest.mark.usefixtures("always_recheck")
@pytest.mark.parametrize("loaded_before", [True, False])
def test_a_named_use_case_whose_models_are_all_damaged_leaves_the_whole_ready(serving, registry, loaded_before):
    churn = copy_of(registry, "churn-lightgbm_v1.0.0-1.000000", use_case="churn")
    if loaded_before:
        serving.readiness()
    break_model(registry, churn)
    newer = copy_of(registry, "churn-lightgbm_v1.0.0-2.000000", use_case="churn")
    (registry.location / newer / "manifest.json").write_bytes(b"{")
    readiness = serving.readiness()
    assert readiness.problem is None
    assert newer in (readiness.refused if loaded_before else readiness.unavailable)["churn"]


# a running service


def ask(server: Server, path: str, record: dict[str, Any] | None = None) -> tuple[int, Any]:
    body = json.dumps(record).encode() if record else None
    request = urllib.request.Request(f"{server.url}{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_running_service_answers_throughout_while_a_model_is_damaged_at_start_and_another_later(
    registry, model_id, record, bikes, tmp_path
):
    churn = [copy_of(registry, f"churn-lightgbm_v1.0.0-{second}.000000", use_case="churn") for second in (1, 2)]
    change_byte(registry.location / churn[1] / "model.pkl")
    environment = {"MODEL_REGISTRY": str(registry.location), "WEB_CONCURRENCY": "1"}
    with running_server(tmp_path / "log", environment) as server:
        status, ready = ask(server, "/ready")
        assert (status, ready["models"]["churn"], list(ready["refused"])) == (200, churn[0], ["churn"])
        (registry.location / "churn.champion").mkdir()
        wait_until(lambda: "champion" in ask(server, "/ready")[1]["refused"]["churn"], 30, "the damage is not seen")
        for _ in range(3):
            assert ask(server, "/output/credit", record)[1]["model"] == model_id
            assert ask(server, "/output/bikes", dict(bikes.example))[0] == 200
            assert ask(server, "/output/churn", record)[1]["model"] == churn[0]
            assert [ask(server, path)[0] for path in ("/ready", "/ready/credit", "/ready/churn", "/health")] == [
                200
            ] * 4
    said = [line for line in server.log.read_text().splitlines() if "is refused" in line]
    assert len(said) == 2  # each once


def test_a_service_whose_registry_hangs_at_its_start_is_healthy_and_ready_when_it_answers(
    registry, model_id, record, tmp_path
):
    answers = tmp_path / "answers"
    stuck = (  # a folder that cannot be listed until there is a file
        "type('Stuck', (tabserve.registry.stores.WatchedFolder,), {'paths': lambda self, "
        "paths=tabserve.registry.stores.WatchedFolder.paths: any(iter(lambda: __import__('time').sleep(0.05) or "
        f"__import__('os').path.exists({str(answers)!r}), True)) or paths(self)}})"
    )
    environment = {"MODEL_REGISTRY": str(registry.location), "WEB_CONCURRENCY": "1"}
    constants = {"tabserve.api.gunicorn_conf.FIRST_LOOK": 0.1, "tabserve.registry.stores.WatchedFolder": stuck}
    with running_server(tmp_path / "log", environment, constants) as server, ThreadPoolExecutor() as pool:
        waiting = [pool.submit(ask, server, "/output/credit", record) for _ in range(8)]
        for _ in range(3):
            assert ask(server, "/health") == (200, {"status": "ok"})
        answers.touch()
        assert {one.result(30)[0] for one in waiting} <= {200, 503}
        wait_until(lambda: ask(server, "/ready")[0] == 200, 30, "it never became ready")
        assert ask(server, "/output/credit", record)[1]["model"] == model_id


# threads


@pytest.mark.usefixtures("always_recheck")
def test_threads_never_see_an_error_while_models_come_and_go(registry, record, model_id):
    resolver = Resolver(registry, "credit")
    for name in ALIASES:
        resolver.resolve(name)
    stop, failures, answers = threading.Event(), [], Counter()

    def hammer(name: str) -> None:
        while not stop.is_set():
            try:
                artifact = resolver.resolve(name)
                make_prediction(artifact, [record])
                answers[artifact.model_id] += 1
            except Exception as error:
                failures.append(error)
            time.sleep(0.001)  # lets the other threads run

    def hammer_ids() -> None:
        while not stop.is_set():
            for one in registry.list():
                try:
                    assert resolver.resolve(one).model_id == one
                except TabserveError:
                    pass  # deleted meanwhile
                except Exception as error:
                    failures.append(error)
            time.sleep(0.001)

    threads = [threading.Thread(target=hammer, args=(name,)) for name in (*ALIASES, model_id)]
    threads.append(threading.Thread(target=hammer_ids))
    for thread in threads:
        thread.start()
    try:
        previous = copy_of(registry)
        for round_ in range(15):
            new = copy_of(registry)
            if round_ % 3 == 0:
                registry.histories.promote(new)
            if round_ % 5 == 0:
                break_model(registry, copy_of(registry))
            registry.delete(previous)
            previous = new
        wait_until(lambda: len(answers) > 1, 30, "no model changed under the threads")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


# approved models only


@pytest.fixture
def strict(registry):
    """A resolver that answers with approved models only."""
    return Resolver(registry, "credit", approved_only=True)


@pytest.mark.usefixtures("always_recheck")
def test_only_a_champion_answers_where_only_approved_models_do(registry, strict, model_id):
    for name in ("credit", "champion", "latest"):
        with pytest.raises(NoApprovedModelError, match="No model of credit is approved"):
            strict.resolve(name)
    with pytest.raises(UnapprovedModelError, match=f"{model_id} was never approved"):
        strict.resolve(model_id)
    assert "APPROVED_ONLY" in strict.readiness().unavailable["credit"]
    registry.histories.promote(model_id)
    newer = copy_of(registry)
    for name in ("credit", "champion", "latest", model_id):
        assert strict.resolve(name).model_id == model_id
    with pytest.raises(UnapprovedModelError):
        strict.resolve(newer)
    registry.histories.promote(newer)
    assert strict.resolve("latest").model_id == newer
    registry.histories.rollback("credit")
    assert (strict.resolve("credit").model_id, strict.resolve("latest").model_id) == (model_id, newer)
    with pytest.raises(UnknownModelError):
        strict.resolve("credit-lightgbm_v1.0.0-1.000000")


@pytest.mark.usefixtures("always_recheck")
def test_what_is_approved_no_longer_is_forgotten(registry, strict, model_id):
    newer = copy_of(registry)
    registry.histories.promote(model_id)
    registry.histories.promote(newer)
    assert strict.resolve(model_id).model_id == model_id
    (registry.location / "credit.history").write_text("nonsense")
    registry.histories.promote(newer, reason="somebody changed the file")
    strict.refresh()
    assert strict.loaded(model_id) is None
    with pytest.raises(UnapprovedModelError):
        strict.resolve(model_id)


def test_an_approved_model_is_the_one_that_was_promoted_and_no_other_of_its_name(registry, strict, model_id):
    registry.histories.promote(model_id)
    manifest = registry.manifest(model_id)
    files = {name: registry.read(model_id, name, manifest) for name in manifest.files}
    shutil.rmtree(registry.location / model_id)
    registry.save(files, replace(manifest, seed=manifest.seed + 1))
    with pytest.raises(BrokenArtifactError, match="not the one that was approved"):
        strict.resolve("credit")
    assert Resolver(registry, "credit").resolve("credit").model_id == model_id


def test_http_says_why_nothing_that_is_not_approved_answers(registry, model_id, record):
    settings = Settings(model_registry=registry.location, auth_required=False, approved_only=True, serve=("credit",))
    client = create_app(settings).test_client()
    refused = client.post(f"/output/{model_id}", json=record)
    assert (refused.status_code, "never approved" in refused.json["detail"]) == (404, True)
    assert client.post("/output/credit", json=record).status_code == 503
    ready = client.get("/ready")
    assert (ready.status_code, "promote one" in ready.json["errors"]["credit"][0]) == (503, True)
    registry.histories.promote(model_id)
    assert client.post("/output/credit", json=record).status_code == 200


# a split


@pytest.mark.usefixtures("always_recheck")
def test_a_share_of_the_records_is_the_challengers_until_the_split_ends(registry, model_id, records):
    challenger = copy_of(registry)
    registry.histories.promote(model_id)
    resolver = Resolver(registry, "credit")
    assert resolver.resolve("credit").split is None
    taken = []
    for share in (10, 50):
        registry.histories.split("credit", {model_id: 100 - share, challenger: share})
        artifact = resolver.resolve("credit")
        assert resolver.resolve("credit") is artifact  # nothing is made again each second
        assert artifact.model_id == model_id
        arms = [artifact.arm_of(record).model_id for record in records]
        assert arms == [artifact.arm_of(dict(reversed(record.items()))).model_id for record in records]
        assert abs(arms.count(challenger) / len(arms) - share / 100) < 0.05
        taken.append({place for place, arm in enumerate(arms) if arm == challenger})
    assert taken[0] < taken[1]
    for name in ("latest", model_id, challenger):
        assert resolver.resolve(name).split is None
    registry.histories.end_split("credit")
    assert resolver.resolve("credit").split is None


@pytest.mark.usefixtures("always_recheck")
def test_a_challenger_that_is_refused_leaves_every_record_to_the_champion(registry, model_id):
    challenger = copy_of(registry)
    registry.histories.promote(model_id)
    registry.histories.split("credit", {model_id: 50, challenger: 50})
    change_byte(registry.location / challenger / "model.pkl")
    resolver = Resolver(registry, "credit")
    assert (resolver.resolve("credit").model_id, resolver.resolve("credit").split) == (model_id, None)
    assert challenger in resolver.readiness().refused["credit"]


def test_a_declared_id_decides_the_arm(artifact, record):
    rider = Id(name="rider")
    champion: Any = SimpleNamespace(encoder=SimpleNamespace(extras=(rider,)))
    split = Split(artifact, 50)
    arms = [
        {split.takes(champion, {**record, "age": age, "rider": name}) for age in range(20, 30)} for name in range(40)
    ]
    assert all(len(found) == 1 for found in arms)
    assert len(set.union(*arms)) == 2
    without = {split.takes(champion, {**record, "age": age, "rider": None}) for age in range(20, 40)}
    assert len(without) == 2


@pytest.mark.usefixtures("always_recheck")
def test_a_history_that_begins_again_lets_nobody_answer_before_the_second_person_has_approved(registry, model_id):
    two = Registry(registry.location, approvals=2)
    copy_of(registry)
    registry.histories.promote(model_id)
    (registry.location / "credit.history").write_text("nonsense")
    resolver = Resolver(two, "credit")
    for _ in range(2):
        with pytest.raises(BrokenArtifactError, match="The champion of credit is refused"):
            resolver.resolve("credit")
        two.histories.promote(model_id, "ann", "the file was damaged")
    two.histories.approve(model_id, "bob")
    assert resolver.resolve("credit").model_id == model_id
