"""The result: what did not end well is said in sentences."""

from dataclasses import replace
from pathlib import Path

import pytest

from tabserve.errors import StoreAwayError
from tabserve.evaluation.gates import Verdict
from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import Registry
from tabserve.training.result import Outcome, TrainingResult
from tabserve.training.saving import publish

PASSED, FAILED = Verdict("smallest r2", 0.7, 0.5, True), Verdict("smallest r2", 0.3, 0.5, False)


@pytest.fixture(scope="module")
def outcomes(trained: Registry) -> list[Outcome]:
    """One that passed, one that failed, one that passed."""
    manifests = [trained.manifest(model_id) for model_id in trained.list("bikes")[:3]]
    return [outcome(*pair) for pair in zip(manifests, (PASSED, FAILED, PASSED), strict=True)]


def outcome(manifest: Manifest, verdict: Verdict) -> Outcome:
    return Outcome(replace(manifest, gates=(verdict,)), Path("report.html"))


def test_a_result_without_problems_has_nothing_to_say(outcomes):
    assert TrainingResult([one for one in outcomes if one.saved]).problems == []


def test_a_candidate_that_failed_is_named_with_its_gates(outcomes):
    (problem,) = TrainingResult(outcomes).problems
    assert problem == f"{outcomes[1].manifest.algorithm} was not registered; it failed: smallest r2."


@pytest.mark.parametrize("error", [StoreAwayError("Timeout"), KeyboardInterrupt()])
def test_what_is_not_published_is_said_beside_what_failed(outcomes, trained, tmp_path, monkeypatch, error):
    copied = []

    def copy(self: Registry, model_id: str, to: Registry) -> None:
        if copied:
            raise error
        copied.append(model_id)

    monkeypatch.setattr(Registry, "copy", copy)
    result = publish(outcomes, trained, Registry(tmp_path / "there"))
    assert [one.published for one in result.outcomes] == [True, False, False]
    assert copied == [outcomes[0].model_id]
    unpublished, failed = result.problems
    assert unpublished.startswith(str(error) or "Interrupted.")
    assert unpublished.endswith(f" copy {tmp_path / 'there'} {outcomes[2].model_id}")
    assert failed.startswith(f"{outcomes[1].manifest.algorithm} was not registered")


def test_where_models_are_saved_where_they_are_for_they_are_published(outcomes, trained):
    assert [one.published for one in publish(outcomes, trained, trained).outcomes] == [True, False, True]
