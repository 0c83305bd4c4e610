"""The overlay of the cluster: that Kubernetes and the Dask operator would take it, and that it is closed to others."""

import re
from dataclasses import fields
from typing import Any

import kubernetes_validate
import pytest

from tabserve.executors import check_spec
from tabserve.settings import RegistrySettings
from tests.conftest import ROOT
from tests.test_kubernetes import CUSTOM, OVERLAYS, VERSIONS, Manifests, build, kind, kubectl, leaves, validate_custom

__all__ = ["kubectl"]  # skips all of this, too

MINE = {"app.kubernetes.io/name": "tabserve-cluster"}
DASKS = ("dask.org/cluster-name", "dask.org/component")  # labels that the operator gives its pods


@pytest.fixture(scope="module")
def cluster() -> Manifests:
    return build(OVERLAYS / "cluster")


@pytest.fixture(scope="module")
def pods(cluster: Manifests) -> dict[str, dict[str, Any]]:
    """The pods' specifications by name."""
    parts = cluster.one("DaskCluster")["spec"]
    jobs = {
        job["metadata"]["name"]: job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for job in cluster.all("CronJob")
    }
    return {"scheduler": parts["scheduler"]["spec"], "worker": parts["worker"]["spec"], **jobs}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_and_every_pod_is_valid(
    cluster: Manifests, pods: dict[str, dict[str, Any]], version: str
) -> None:
    for document in cluster.documents:
        if kind(document) in CUSTOM:
            validate_custom(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)
    for name, pod in pods.items():
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}
        kubernetes_validate.validate(whole, version, strict=True)
    service = cluster.one("DaskCluster")["spec"]["scheduler"]["service"]
    whole = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "scheduler"}, "spec": service}
    kubernetes_validate.validate(whole, version, strict=True)


def test_it_is_what_the_operator_makes_a_cluster_of(cluster: Manifests) -> None:
    name = cluster.one("DaskCluster")["metadata"]["name"]
    autoscaler = cluster.one("DaskAutoscaler")["spec"]
    assert autoscaler["cluster"] == name
    assert 0 < autoscaler["minimum"] < autoscaler["maximum"]
    service = cluster.one("DaskCluster")["spec"]["scheduler"]["service"]
    assert service["selector"] == dict(zip(DASKS, (name, "scheduler"), strict=True))
    assert {port["name"]: port["port"] for port in service["ports"]} == {"tcp-comm": 8786, "http-dashboard": 8787}


def test_nothing_that_the_parameters_must_set_is_left(cluster: Manifests) -> None:
    assert not [value for one in cluster.documents for _, value in leaves(one) if "set-by" in str(value)]
    assert "parameters" not in {one["metadata"]["name"] for one in cluster.documents}


def test_everything_is_in_its_namespace_where_pods_must_be_restricted(
    cluster: Manifests, pods: dict[str, dict[str, Any]]
) -> None:
    namespace = cluster.one("Namespace")["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    others = [one["metadata"].get("namespace") for one in cluster.documents if one["kind"] != "Namespace"]
    assert set(others) == {namespace["name"]}
    for pod in pods.values():
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert all("sizeLimit" in volume.get("emptyDir", {"sizeLimit": 1}) for volume in pod["volumes"])


def test_all_have_the_image_of_the_cluster_and_the_same_settings(
    cluster: Manifests, pods: dict[str, dict[str, Any]]
) -> None:
    containers = [pod["containers"][0] for pod in pods.values()]
    assert {container["image"] for container in containers} == {"registry.example.com/tabserve-cluster:1.0.0"}
    assert all(container["envFrom"] == containers[0]["envFrom"] for container in containers)
    (settings, _) = containers[0]["envFrom"]
    found = cluster.one("ConfigMap")
    assert settings == {"configMapRef": {"name": found["metadata"]["name"]}}
    ours = {field.name.upper() for field in fields(RegistrySettings)}
    registry = {name: value for name, value in found["data"].items() if name in ours}
    assert set(registry) == {"MODEL_REGISTRY", "MODEL_CACHE"}
    assert RegistrySettings.from_environment(registry).model_registry == "s3://example-models/tabserve"


def test_the_jobs_send_their_work_to_the_scheduler_and_begin_when_somebody_says_so(
    cluster: Manifests, pods: dict[str, dict[str, Any]]
) -> None:
    assert all(job["spec"]["suspend"] for job in cluster.all("CronJob"))
    scheduler = f"{cluster.one('DaskCluster')['metadata']['name']}-scheduler"
    for name in ("score", "train"):
        arguments = pods[name]["containers"][0]["args"]
        assert arguments[:2] == ["tabserve", name]
        spec = arguments[arguments.index("--executor") + 1]
        assert check_spec(spec) == f"dask:tcp://{scheduler}:8786"


def test_only_workers_jobs_and_the_operator_reach_the_scheduler(cluster: Manifests) -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in cluster.all("NetworkPolicy")}
    assert policies["cluster"]["podSelector"] == {}
    assert policies["cluster"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policies["cluster"].get("ingress")
    name = cluster.one("DaskCluster")["metadata"]["name"]
    assert policies["scheduler"]["podSelector"]["matchLabels"] == dict(zip(DASKS, (name, "scheduler"), strict=True))
    ours, operator = policies["scheduler"]["ingress"]
    assert ours == {"from": [{"podSelector": {"matchLabels": MINE}}], "ports": [{"protocol": "TCP", "port": 8786}]}
    (source,) = operator["from"]
    assert source == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "dask-operator"}}}
    (workers,) = policies["workers"]["ingress"]
    assert workers["from"] == [{"podSelector": {"matchLabels": {DASKS[0]: name}}}]


def test_the_pods_have_the_labels_that_the_policies_look_for(cluster: Manifests) -> None:
    assert cluster.one("DaskCluster")["metadata"]["labels"] == MINE  # the operator gives them to its pods
    for job in cluster.all("CronJob"):
        assert job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"] == MINE


def test_workers_listen_where_the_policies_let_others_through(
    cluster: Manifests, pods: dict[str, dict[str, Any]]
) -> None:
    arguments = pods["worker"]["containers"][0]["args"]
    ports = {int(arguments[arguments.index(option) + 1]) for option in ("--worker-port", "--nanny-port")}
    (policy,) = (one["spec"] for one in cluster.all("NetworkPolicy") if one["metadata"]["name"] == "workers")
    (allowed,) = policy["ingress"][0]["ports"]
    assert set(range(allowed["port"], allowed["endPort"] + 1)) == ports


def test_the_user_is_that_of_the_image(pods: dict[str, dict[str, Any]]) -> None:
    dockerfile = (ROOT / "deploy" / "compose" / "cluster" / "Dockerfile").read_text()
    *_, user = re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE)
    for pod in pods.values():
        assert user == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
