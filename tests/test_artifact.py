"""Artifacts: what a service knows of a model without its declaration."""

from tabserve.declaration.use_case import UseCase
from tabserve.registry.artifact import Artifact
from tests.declarations import comparable


def test_an_artifact_says_what_was_declared(artifact: Artifact, credit: UseCase) -> None:
    declared = artifact.declared
    for name in ("name", "title", "description", "features", "derived", "extras", "task", "target", "limits"):
        assert comparable(getattr(declared, name)) == comparable(getattr(credit, name)), name
    assert declared.example == credit.example
    assert [column.name for column in declared.columns] == [column.name for column in credit.columns]


def test_its_signature_is_its_features_and_target_as_json_schema(artifact: Artifact, credit: UseCase) -> None:
    signature = artifact.declared.signature()
    assert [feature["name"] for feature in signature["features"]] == [feature.name for feature in credit.features]
    assert signature["features"][0]["kind"] == "OrderedCategory"
    assert signature["features"][1] == {
        "name": "months_loan_duration",
        "kind": "Integer",
        "type": "integer",
        "minimum": 1,
        "maximum": 120,
        "description": "Duration of the loan, in months",
    }
    assert signature["target"]["name"] == "default"
    assert [column["name"] for column in signature["derived"]] == ["instalment", "duration_for_age"]
