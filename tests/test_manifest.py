"""Manifests: to JSON and back, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.evaluation.distribution import Distributions
from tabserve.evaluation.fairness import GroupComparison
from tabserve.evaluation.gates import Verdict, group_gate
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import FAILED, PASSED, PASSED_WITH_WARNINGS, DataWarning, Manifest


@pytest.fixture(scope="module")
def content(artifact: Artifact) -> dict[str, Any]:
    return artifact.manifest.to_json()


def test_a_manifest_comes_back_from_json_as_it_was(artifact: Artifact, content: dict[str, Any]) -> None:
    assert Manifest.from_json(content) == artifact.manifest


def test_a_name_that_is_a_word_of_python_is_one_in_json(content: dict[str, Any]) -> None:
    assert content["protected"].keys() == {"columns", "excluded", "metric", "with", "without"}


def test_parts_that_are_not_known_are_left_out(content: dict[str, Any]) -> None:
    assert Manifest.from_json({**content, "colour": "red"}).to_json() == content


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, part in parts for path in paths(part, (*at, key)))]


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    if isinstance(value, dict):
        return {key: put(part, at[1:], new) if key == at[0] else part for key, part in value.items()}
    return [put(part, at[1:], new) if place == at[0] else part for place, part in enumerate(value)]


@given(data=st.data())
def test_one_changed_value_is_refused_or_comes_back(content: dict[str, Any], data: st.DataObject) -> None:
    at = data.draw(st.sampled_from(paths(content)))
    new = data.draw(st.sampled_from([None, True, 0, -1.5, "text", [], {}, [1], {"a": 1}, [[]], [{}]]))
    changed = put(content, at, new)
    try:
        manifest = Manifest.from_json(changed)
    except ValueError:
        return
    again = manifest.to_json()
    assert Manifest.from_json(again) == manifest
    assert all(changed.get(name) == value for name, value in again.items() if at[:1] != (name,))


def test_a_manifest_that_lacks_a_part_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Manifest"):
        Manifest.from_json({name: part for name, part in content.items() if name != "metrics"})


@pytest.mark.parametrize("other", [None, [], "text", 1, {}])
def test_what_is_no_manifest_is_refused(other: Any) -> None:
    with pytest.raises(ValueError, match="Manifest"):
        Manifest.from_json(other)


def grouped(*sizes: int) -> GroupComparison:
    """A comparison of groups with these numbers of rows."""
    return GroupComparison({f"group {place}": {"rows": float(size)} for place, size in enumerate(sizes)}, 0.7, 0.1)


def test_the_value_of_a_gate_on_small_groups_is_withheld_and_its_verdict_is_not(artifact: Artifact) -> None:
    names = group_gate("age"), group_gate("sex"), "smallest hold-out roc_auc"
    gates = tuple(Verdict(name, value=0.7, bound=0.5, passed=True) for name in names)
    groups = {"age": grouped(19, 281), "sex": grouped(100, 200)}
    shown = replace(artifact.manifest, groups=groups, gates=gates).publishable()
    assert shown.gates == (replace(gates[0], value=None), *gates[1:])
    assert shown.distributions == Distributions()
    withheld = {"groups": {}, "gates": (), "distributions": Distributions()}
    assert replace(shown, **withheld) == replace(artifact.manifest, **withheld)


REACHED, MISSED = Verdict("smallest r2", 0.7, 0.5, True), Verdict("smallest r2", 0.3, 0.5, False)
ODD = DataWarning("There are few rows.", "Collect more.")


@pytest.mark.parametrize(
    ("changes", "verdict", "doubt"),
    [
        ({"gates": (REACHED,)}, PASSED, None),
        ({"gates": (REACHED, MISSED)}, FAILED, None),
        ({"gates": (REACHED, replace(MISSED, accepted="it is fairer"))}, PASSED_WITH_WARNINGS, "it is fairer"),
        ({"gates": (replace(REACHED, gate="a, not compared: it is gone", value=None),)}, PASSED_WITH_WARNINGS, "gone"),
        ({"gates": (replace(REACHED, gate=group_gate("age"), value=None),)}, PASSED, None),
        ({"gates": (REACHED,), "warnings": (ODD,)}, PASSED_WITH_WARNINGS, "There are few rows. Collect more."),
        ({"gates": (MISSED,), "warnings": (ODD,)}, FAILED, None),
        ({"gates": ()}, PASSED_WITH_WARNINGS, "nothing was demanded"),
    ],
)
def test_a_verdict_is_failed_passed_with_warnings_or_passed(
    artifact: Artifact, changes: dict[str, Any], verdict: str, doubt: str | None
) -> None:
    manifest = replace(artifact.manifest, **{"warnings": (), **changes})
    assert manifest.verdict == verdict
    assert doubt is None or doubt in " ".join(manifest.doubts)
