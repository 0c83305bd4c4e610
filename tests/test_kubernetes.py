"""The Kubernetes manifests: that they build, that a cluster would take them, and that they agree with the service."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tabserve.api.app import create_app
from tabserve.api.companion import GRACE
from tabserve.settings import Settings
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = FOLDER / "overlays"
MONITORING = ROOT / "deploy" / "monitoring"
CUSTOM = yaml.safe_load((ROOT / "tests" / "fixtures" / "custom_resources.yaml").read_text(encoding="utf-8"))
VERSIONS = ("1.30", "1.37")  # of Kubernetes: the oldest that takes the manifests, and the newest there is
PROBE = {  # what the manifests ask of kubectl, in small
    "base": "configMapGenerator: [{name: target, literals: [reached=no]}]",
    "values": "configMapGenerator: [{name: source, literals: [key=value]}]",
    "component": """
        apiVersion: kustomize.config.k8s.io/v1alpha1
        kind: Component
        replacements:
          - source: {kind: ConfigMap, name: source, fieldPath: data.key}
            targets: [{select: {kind: ConfigMap, name: target}, fieldPaths: [data.reached]}]
    """,
    "overlay": "{resources: [../base, ../values], components: [../component]}",
}


@pytest.fixture(scope="session", autouse=True)
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip all of it without a kubectl that can build such manifests."""
    if not shutil.which("kubectl"):
        pytest.skip("there is no kubectl: apt-get install kubernetes-client, of Debian 13 or newer")
    folder = tmp_path_factory.mktemp("probe")
    for name, text in PROBE.items():
        path = folder / name / "kustomization.yaml"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", str(folder / "overlay")], capture_output=True, text=True, timeout=60)
    if "reached: value" not in done.stdout:  # its version says nothing: some builds have none of kustomize
        pytest.skip("this kubectl is too old: a component's replacements do not work")


class Manifests(NamedTuple):
    """What one overlay is built into."""

    documents: tuple[dict[str, Any], ...]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (document,) = self.all(kind)
        return document

    @property
    def workload(self) -> dict[str, Any]:
        """What makes the pods."""
        (document,) = [*self.all("Deployment"), *self.all("StatefulSet")]
        return document

    @property
    def pod(self) -> dict[str, Any]:
        return dict(self.workload["spec"]["template"]["spec"])

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def settings(self) -> dict[str, str]:
        return dict(self.one("ConfigMap")["data"])

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """The container's variables that are not in the ConfigMap."""
        return {variable["name"]: variable for variable in self.container["env"]}

    def volume(self, path: str) -> dict[str, Any]:
        """The volume that is mounted at a path."""
        (name,) = (mount["name"] for mount in self.container["volumeMounts"] if mount["mountPath"] == path)
        (volume,) = (volume for volume in self.pod["volumes"] if volume["name"] == name)
        return dict(volume)


def build(folder: Path) -> Manifests:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "a warning of today is an error of the next version"
    return Manifests(tuple(yaml.safe_load_all(done.stdout)))


def with_components(folder: Path, *components: str) -> Path:
    """A copy of the overlay for production that an operator has edited: with components."""
    shutil.copytree(FOLDER, folder)
    overlay = folder / "overlays" / "production"
    text = (overlay / "kustomization.yaml").read_text(encoding="utf-8")
    for component in components:
        assert text.count(f"  # - ../../components/{component} #") == 1
        text = text.replace(f"  # - ../../components/{component} #", f"  - ../../components/{component} #")
    (overlay / "kustomization.yaml").write_text(text, encoding="utf-8")
    return overlay


@pytest.fixture(scope="session")
def production() -> Manifests:
    return build(OVERLAYS / "production")


@pytest.fixture(scope="session")
def local() -> Manifests:
    return build(OVERLAYS / "local")


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    return build(with_components(tmp_path_factory.mktemp("bucket") / "kubernetes", "bucket"))


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    return build(with_components(tmp_path_factory.mktemp("everything") / "kubernetes", "bucket", "redis", "monitoring"))


@pytest.fixture(scope="session")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    return build(with_components(tmp_path_factory.mktemp("envoy") / "kubernetes", "gateway", "envoy-gateway"))


@pytest.fixture(scope="session")
def traefik(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    return build(with_components(tmp_path_factory.mktemp("traefik") / "kubernetes", "gateway", "traefik"))


@pytest.fixture(scope="session")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    return build(with_components(tmp_path_factory.mktemp("operated") / "kubernetes", "monitoring", "decisions"))


@pytest.fixture(params=["envoy", "traefik"])
def gateway(request: pytest.FixtureRequest) -> Manifests:
    manifests = request.getfixturevalue(request.param)
    assert isinstance(manifests, Manifests)
    return manifests


@pytest.fixture(params=["local", "production", "bucket", "everything", "envoy", "traefik", "operated"])
def built(request: pytest.FixtureRequest) -> Manifests:
    manifests = request.getfixturevalue(request.param)
    assert isinstance(manifests, Manifests)
    return manifests


def leaves(node: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of a document, with where it stands; an item of a list by its name, when it has one."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from leaves(item, f"{path}/{item.get('name', index) if isinstance(item, dict) else index}")
    else:
        yield path, node


# What a cluster takes


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_valid(built: Manifests, version: str) -> None:
    for document in built.documents:
        if kind(document) in CUSTOM:
            validate_custom(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)  # strict: a field by a wrong name is an error


def kind(document: dict[str, Any]) -> str:
    return f"{document['apiVersion']} {document['kind']}"


def validate_custom(document: dict[str, Any]) -> None:
    schema = {**CUSTOM[kind(document)], "$defs": CUSTOM["$defs"]}
    jsonschema.validate(document["spec"], schema, jsonschema.Draft202012Validator)


def test_the_validation_sees_a_field_by_a_wrong_name(production: Manifests) -> None:
    service = production.one("Service")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**service, "spec": {**service["spec"], "ports_": []}}, VERSIONS[1], strict=True)


def test_so_does_that_of_custom_resources(envoy: Manifests, traefik: Manifests, operated: Manifests) -> None:
    cluster = build(OVERLAYS / "cluster")
    documents = (*envoy.documents, *traefik.documents, *operated.documents, *cluster.documents)
    custom = [document for document in documents if kind(document) in CUSTOM]
    assert {kind(document) for document in custom} == set(CUSTOM) - {"$defs"}
    for document in custom:
        with pytest.raises(jsonschema.ValidationError):
            validate_custom({**document, "spec": {**document["spec"], "rule": []}})


def test_each_overlay_brings_what_it_is_for(production: Manifests, local: Manifests, everything: Manifests) -> None:
    both = ["Namespace", "ServiceAccount", "ConfigMap", "Service", "Deployment", "NetworkPolicy"]
    assert sorted(document["kind"] for document in local.documents) == sorted(both)
    more = ["PodDisruptionBudget", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy"]
    assert sorted(document["kind"] for document in production.documents) == sorted([*both, *more])
    assert {policy["metadata"]["name"] for policy in everything.all("NetworkPolicy")} == {
        "tabserve",
        "tabserve-bucket",
        "tabserve-database",
        "tabserve-monitoring",
        "tabserve-redis",
    }


def test_everything_is_in_the_namespace_that_is_made(built: Manifests) -> None:
    name = built.one("Namespace")["metadata"]["name"]
    others = [document for document in built.documents if document["kind"] != "Namespace"]
    assert {document["metadata"].get("namespace") for document in others} == {name}


def test_nothing_that_an_overlay_must_set_is_left(built: Manifests) -> None:
    left = [value for document in built.documents for _, value in leaves(document) if "set-by" in str(value)]
    assert not left


# What agrees with the service


def test_probes_need_no_credentials_and_only_health_restarts_a_pod(built: Manifests, tmp_path: Path) -> None:
    client = create_app(Settings(model_registry=tmp_path)).test_client()
    assert client.post("/predict").status_code == 401
    probes = {name: built.container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    answers = {name: client.get(probe["path"]).status_code for name, probe in probes.items()}
    # there is no model here, which no restart would change
    assert answers == {"startup": 200, "liveness": 200, "readiness": 503}


def test_a_pod_has_a_minute_to_load_its_models_and_is_not_restarted_while_gunicorn_would_help(built: Manifests) -> None:
    startup, liveness = built.container["startupProbe"], built.container["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > gunicorns("timeout")


def test_ports_are_those_of_image_and_settings(built: Manifests) -> None:
    (port,) = [port for port in built.container["ports"] if port["name"] == "http"]
    assert "PORT" not in built.settings
    assert port == {"name": "http", "containerPort": Settings().port}
    assert built.one("Service")["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    (rule,) = built.all("NetworkPolicy")[0]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]


def test_port_and_user_are_those_of_the_dockerfile(built: Manifests) -> None:
    dockerfile = ROOT / "Dockerfile"
    text = dockerfile.read_text(encoding="utf-8")
    assert re.findall(r"^EXPOSE\s+(\S+)", text, re.MULTILINE) == [str(Settings().port)]
    context = built.pod["securityContext"]
    *_, last = re.findall(r"^USER\s+(\S+)", text, re.MULTILINE)
    assert last == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_settings_are_ones_that_the_service_knows_and_takes(built: Manifests) -> None:
    ours = {setting.name.upper() for setting in fields(Settings)}
    from_secrets = set(built.variables) - {name for name in built.variables if name.startswith("AWS_")}
    assert set(built.settings) | from_secrets <= ours
    Settings.from_environment(built.settings)  # raises for a value that cannot be used


def test_production_asks_for_users_and_a_laptop_does_not(production: Manifests, local: Manifests) -> None:
    assert Settings.from_environment(production.settings).auth_required
    assert "optional" not in production.volume("/etc/tabserve")["secret"], "pods must wait for the users, not crash"
    assert not Settings.from_environment(local.settings).auth_required
    assert local.volume("/etc/tabserve")["secret"]["optional"]


def test_only_behind_the_ingress_is_an_address_believed(production: Manifests, local: Manifests) -> None:
    assert production.settings["TRUSTED_PROXIES"] == "1"
    assert local.settings["TRUSTED_PROXIES"] == "0"


def test_the_users_file_is_where_the_secret_is_mounted(built: Manifests) -> None:
    path = Path(built.settings["AUTH_USERS_FILE"])
    assert path.name == "users.txt"
    (mount,) = (mount for mount in built.container["volumeMounts"] if mount["mountPath"] == str(path.parent))
    assert mount["readOnly"]
    assert "subPath" not in mount, "it would never be updated, and a removed user could go on"
    secret = built.volume(str(path.parent))["secret"]
    assert secret["secretName"] == "tabserve-users"
    assert secret["defaultMode"] == 0o440, "its group is fsGroup, so the service can read it and others cannot"
    assert built.pod["securityContext"]["fsGroup"]


def test_a_pod_ends_after_its_last_request(built: Manifests) -> None:
    pause = built.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause >= 10, "proxies need seconds to hear that a pod is going"
    assert built.pod["terminationGracePeriodSeconds"] > pause + Settings().graceful_timeout + GRACE, "and its decision"


def gunicorns(name: str) -> int:
    """A number that gunicorn's settings set; the file cannot be imported without changing the environment."""
    tree = ast.parse((ROOT / "api" / "gunicorn_conf.py").read_text(encoding="utf-8"))
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
    )
    return int(ast.literal_eval(value))


# What agrees within


def test_what_selects_the_pods_selects_them_and_nothing_else_is_selected(built: Manifests) -> None:
    workload = built.workload["spec"]
    labels = workload["template"]["metadata"]["labels"]
    selectors = [workload["selector"]["matchLabels"], built.one("Service")["spec"]["selector"]]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in built.all("NetworkPolicy")]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in built.all("PodDisruptionBudget")]
    selectors += [monitor["spec"]["selector"]["matchLabels"] for monitor in built.all("PodMonitor")]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in built.pod["topologySpreadConstraints"]]
    # an empty selector would take in all pods of the namespace
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_the_ingress_leads_to_the_service(production: Manifests) -> None:
    (rule,) = production.one("Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    service = production.one("Service")
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")


def test_the_ingress_serves_tls_for_its_host_and_is_no_controllers_own(production: Manifests) -> None:
    ingress = production.one("Ingress")
    assert "annotations" not in ingress["metadata"]
    (tls,) = ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"] for rule in ingress["spec"]["rules"]]


def test_a_gateway_takes_the_place_of_the_ingress(envoy: Manifests, traefik: Manifests, production: Manifests) -> None:
    kinds = {document["kind"] for document in production.documents} - {"Ingress"} | {"Gateway", "HTTPRoute"}
    policies = {"ClientTrafficPolicy", "BackendTrafficPolicy"}
    assert {document["kind"] for document in envoy.documents} == kinds | policies
    assert {document["kind"] for document in traefik.documents} == kinds | {"Middleware"}


def test_the_route_leads_from_the_gateways_https_to_the_service(gateway: Manifests) -> None:
    (listener,) = gateway.one("Gateway")["spec"]["listeners"]
    route, service = gateway.one("HTTPRoute")["spec"], gateway.one("Service")
    (parent,), (rule,) = route["parentRefs"], route["rules"]
    assert parent == {"kind": "Gateway", "name": gateway.one("Gateway")["metadata"]["name"], "sectionName": "https"}
    assert (listener["name"], listener["protocol"], listener["tls"]["mode"]) == ("https", "HTTPS", "Terminate")
    assert route["hostnames"] == [listener["hostname"]]
    (backend,) = rule["backendRefs"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]


def test_a_gateway_leaves_the_service_its_time_and_its_limits(envoy: Manifests, traefik: Manifests) -> None:
    largest = Settings().max_content_length
    (rule,) = envoy.one("HTTPRoute")["spec"]["rules"]
    assert seconds(rule["timeouts"]["request"]) > Settings().graceful_timeout
    backends = envoy.one("BackendTrafficPolicy")["spec"]
    assert int(backends["requestBuffer"]["limit"].removesuffix("Mi")) * 1024**2 > largest
    assert seconds(backends["timeout"]["http"]["connectionIdleTimeout"]) < gunicorns("keepalive")
    assert traefik.one("Middleware")["spec"]["buffering"]["maxRequestBodyBytes"] > largest


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_no_gateway_sends_a_request_again_that_it_has_begun_to_send(envoy: Manifests, traefik: Manifests) -> None:
    assert envoy.one("BackendTrafficPolicy")["spec"]["retry"] == {
        "numRetries": 1,
        "retryOn": {"triggers": ["connect-failure"]},
    }
    assert "retryExpression" not in traefik.one("Middleware")["spec"]["buffering"]
    for manifests in (envoy, traefik):
        assert all("retry" not in rule for rule in manifests.one("HTTPRoute")["spec"]["rules"])


def test_policies_and_filters_belong_to_what_is_there(envoy: Manifests, traefik: Manifests) -> None:
    for policy in (envoy.one("ClientTrafficPolicy"), envoy.one("BackendTrafficPolicy")):
        for target in policy["spec"]["targetRefs"]:
            assert target["name"] == envoy.one(target["kind"])["metadata"]["name"]
    (rule,) = traefik.one("HTTPRoute")["spec"]["rules"]
    (used,) = [filter_["extensionRef"] for filter_ in rule["filters"]]
    middleware = traefik.one("Middleware")
    assert used == {"group": "traefik.io", "kind": "Middleware", "name": middleware["metadata"]["name"]}


def test_the_autoscaler_alone_says_how_many_pods_there_are(production: Manifests) -> None:
    deployment, scaler = production.one("Deployment"), production.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"], "each `kubectl apply` would undo what the autoscaler decided"
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
    assert production.container["resources"]["requests"]["cpu"], "utilisation is a share of what is requested"


def test_without_an_autoscaler_the_number_of_pods_is_stated(local: Manifests) -> None:
    assert local.one("Deployment")["spec"]["replicas"] == 1


def test_a_drain_takes_some_pods_and_never_all(production: Manifests) -> None:
    budget = production.one("PodDisruptionBudget")["spec"]
    assert 0 < budget["maxUnavailable"] < production.one("HorizontalPodAutoscaler")["spec"]["minReplicas"]
    assert "minAvailable" not in budget, "the API takes one of the two"


def test_an_update_takes_no_pod_away_before_its_successor_is_ready(production: Manifests, local: Manifests) -> None:
    for built in (production, local):
        update = built.one("Deployment")["spec"]["strategy"]["rollingUpdate"]
        assert update == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_are_spread_over_nodes_and_zones(production: Manifests) -> None:
    keys = [spread["topologyKey"] for spread in production.pod["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_a_pod_has_what_the_service_was_measured_with(production: Manifests) -> None:
    granted = {"cpu": "1", "memory": "512Mi"}
    assert production.container["resources"] == {"requests": granted, "limits": granted}


def test_a_laptop_asks_for_less_and_has_the_same_limits(local: Manifests, production: Manifests) -> None:
    assert local.container["resources"]["limits"] == production.container["resources"]["limits"]
    assert local.container["resources"]["requests"] != production.container["resources"]["requests"]
    # an image of the local engine is in no registry
    assert (local.container["image"], local.container["imagePullPolicy"]) == ("tabserve:latest", "IfNotPresent")


# What is kept from harm


def test_the_namespace_asks_for_restricted_pods_and_these_are(built: Manifests) -> None:
    assert built.one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod, context = built.pod, built.pod["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(pod)
    assert context["runAsNonRoot"]
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"} | {
        "projected",
        "secret",
    }
    assert all("hostPort" not in port for port in built.container["ports"])
    # beyond what `restricted` asks: nothing can be written but what is mounted for it
    assert built.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_what_can_be_written_is_of_limited_size(built: Manifests) -> None:
    assert "sizeLimit" in built.volume("/tmp")["emptyDir"]
    folders = [volume["emptyDir"] for volume in built.pod["volumes"] if "emptyDir" in volume]
    assert all(folder.keys() == {"sizeLimit"} for folder in folders), "medium: Memory would count as the container's"


def test_no_pod_holds_a_token_for_the_clusters_api(built: Manifests) -> None:
    account = built.one("ServiceAccount")
    assert account["automountServiceAccountToken"] is built.pod["automountServiceAccountToken"] is False
    assert built.pod["serviceAccountName"] == account["metadata"]["name"]


def test_the_environment_holds_no_addresses_of_services(built: Manifests) -> None:
    assert built.pod["enableServiceLinks"] is False


def test_secrets_are_named_and_never_there(built: Manifests) -> None:
    assert not built.all("Secret")
    secret = re.compile("KEY|SECRET|PASSWORD|TOKEN$|RATE_LIMIT_STORAGE|DATABASE_URL|DECISION_LOG")
    assert not [name for name in built.settings if secret.search(name)]
    for name, variable in built.variables.items():
        assert not secret.search(name) or "secretKeyRef" in variable["valueFrom"], name


def test_a_signing_key_is_used_when_there_is_one(built: Manifests) -> None:
    assert built.variables["MODEL_SIGNING_KEY"]["valueFrom"]["secretKeyRef"] == {
        "name": "tabserve-keys",
        "key": "MODEL_SIGNING_KEY",
        "optional": True,
    }


def test_only_the_ingress_controller_reaches_the_service(production: Manifests) -> None:
    (rule,) = [rule for policy in production.all("NetworkPolicy") for rule in policy["spec"].get("ingress", [])]
    (source,) = rule["from"]  # an absent or empty list would let everybody in
    assert list(source["namespaceSelector"]["matchLabels"]) == ["kubernetes.io/metadata.name"]


def test_out_goes_what_the_components_need_and_nothing_else(built: Manifests) -> None:
    base, *added = built.all("NetworkPolicy")
    assert base["spec"]["policyTypes"] == ["Ingress", "Egress"], "a direction that is not named is open"
    assert base["spec"]["egress"] == []
    names = {"tabserve-bucket": {53, 443}, "tabserve-redis": {53, 6379}, "tabserve-database": {53, 5432}}
    names["tabserve-decisions"] = names["tabserve-database"]
    for policy in added:
        if policy["metadata"]["name"] == "tabserve-monitoring":  # lets Prometheus in
            continue
        assert policy["spec"]["policyTypes"] == ["Egress"]
        ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert ports == names[policy["metadata"]["name"]]


# Models from a bucket, limits in a Redis


def test_models_are_those_of_the_image_unless_a_bucket_is_named(production: Manifests, local: Manifests) -> None:
    for manifests in (production, local):
        assert not {"MODEL_REGISTRY", "MODEL_CACHE"} & manifests.settings.keys()
        assert not [name for name in manifests.variables if name.startswith("AWS_")]


def test_models_from_a_bucket_have_a_cache_that_can_be_written(bucket: Manifests) -> None:
    assert bucket.settings["MODEL_REGISTRY"].startswith("s3://")
    assert "sizeLimit" in bucket.volume(bucket.settings["MODEL_CACHE"])["emptyDir"]


def test_the_bucket_is_read_as_a_role_whose_token_is_no_use_elsewhere(bucket: Manifests) -> None:
    path = Path(bucket.variables["AWS_WEB_IDENTITY_TOKEN_FILE"]["value"])
    (source,) = bucket.volume(str(path.parent))["projected"]["sources"]
    assert source["serviceAccountToken"]["path"] == path.name
    assert source["serviceAccountToken"]["audience"] == "sts.amazonaws.com", "the cluster's API does not take it"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert bucket.variables[name]["valueFrom"]["secretKeyRef"]["optional"], "keys instead of the role"


@pytest.mark.parametrize("name", ["RATE_LIMIT_STORAGE", "DATABASE_URL", "DECISION_LOG"])
def test_what_pods_share_is_named_by_a_secret_that_must_be_there(
    everything: Manifests, operated: Manifests, name: str
) -> None:
    reference = (everything.variables | operated.variables)[name]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "tabserve-keys", "key": name}


def test_several_pods_share_their_jobs(production: Manifests, local: Manifests) -> None:
    assert production.one("HorizontalPodAutoscaler")["spec"]["minReplicas"] > 1
    assert "DATABASE_URL" in production.variables
    assert local.one("Deployment")["spec"]["replicas"] == 1
    assert "DATABASE_URL" not in local.variables


# Metrics, alerts and a log of decisions


def test_without_their_components_nothing_is_shown_or_logged(production: Manifests, local: Manifests) -> None:
    for manifests in (production, local):
        assert not {"METRICS", "DECISION_SPOOL_FOLDER"} & manifests.settings.keys()
        assert "DECISION_LOG" not in manifests.variables


def test_decisions_wait_in_a_volume_that_outlives_the_pod(operated: Manifests) -> None:
    workload = operated.workload
    assert workload["kind"] == "StatefulSet", "a Deployment's pods have no volume of their own that stays"
    settings = Settings.from_environment(operated.settings)
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    (mount,) = [mount for mount in operated.container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
    assert mount["mountPath"] == str(settings.decision_spool_folder.parent), "the folder itself is the service's alone"
    assert "readOnly" not in mount
    storage = claim["spec"]["resources"]["requests"]["storage"]
    assert int(storage.removesuffix("Gi")) * 1024**3 > 2 * settings.decision_spool
    kept = workload["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert {*kept.values()} == {"Retain"}, "a claim may hold decisions when its pod is removed"
    assert not [volume for volume in operated.pod["volumes"] if volume["name"] == claim["metadata"]["name"]]


def test_the_statefulset_is_the_deployment_in_all_else(operated: Manifests, production: Manifests) -> None:
    ours, plain = operated.workload, production.workload
    assert ours["metadata"] == plain["metadata"]
    assert ours["spec"]["selector"] == plain["spec"]["selector"]
    assert ours["spec"]["serviceName"] == operated.one("Service")["metadata"]["name"]
    assert operated.container["image"] == production.container["image"]
    assert not {"strategy", "progressDeadlineSeconds", "replicas"} & ours["spec"].keys()
    assert operated.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"
    assert {tuple(spread["matchLabelKeys"]) for spread in operated.pod["topologySpreadConstraints"]} == {
        ("controller-revision-hash",)
    }


def test_prometheus_and_nobody_else_reaches_the_metrics(operated: Manifests) -> None:
    (port,) = [port for port in operated.container["ports"] if port["name"] == "metrics"]
    assert operated.settings["METRICS"] == f":{port['containerPort']}"
    assert port["name"] not in [port["targetPort"] for port in operated.one("Service")["spec"]["ports"]]
    (policy,) = [one for one in operated.all("NetworkPolicy") if one["metadata"]["name"] == "tabserve-monitoring"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    (source,) = rule["from"]  # an absent or empty list would let everybody in
    assert [*source["namespaceSelector"]["matchLabels"]] == ["kubernetes.io/metadata.name"]
    (endpoint,) = operated.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]


def test_prometheus_knows_the_pods_by_the_job_that_the_rules_name(operated: Manifests) -> None:
    (scrape,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    (endpoint,) = operated.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": scrape["job_name"]}]


def test_the_alerts_are_those_of_compose(operated: Manifests) -> None:
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text(encoding="utf-8"))
    assert operated.one("PrometheusRule")["spec"] == rules, "run `make rules`"


# What an operator changes


PARAMETERS = yaml.safe_load((OVERLAYS / "production" / "parameters.yaml").read_text(encoding="utf-8"))["data"]
ARRIVES = {
    "image": ["Deployment/spec/template/spec/containers/tabserve/image"],
    "ingress_namespace": [
        "NetworkPolicy/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io/metadata.name"
    ],
    "monitoring_namespace": [
        "NetworkPolicy/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io/metadata.name"
    ],
    "bucket": ["ConfigMap/data/MODEL_REGISTRY"],
    "bucket_region": ["Deployment/spec/template/spec/containers/tabserve/env/AWS_DEFAULT_REGION/value"],
    "bucket_role": ["Deployment/spec/template/spec/containers/tabserve/env/AWS_ROLE_ARN/value"],
}
WITH_INGRESS = ARRIVES | {
    "host": ["Ingress/spec/rules/0/host", "Ingress/spec/tls/0/hosts/0"],
    "tls_secret": ["Ingress/spec/tls/0/secretName"],
    "ingress_class": ["Ingress/spec/ingressClassName"],
    "gateway_class": [],
}
WITH_GATEWAY = ARRIVES | {
    "host": ["Gateway/spec/listeners/https/hostname", "HTTPRoute/spec/hostnames/0"],
    "tls_secret": ["Gateway/spec/listeners/https/tls/certificateRefs/changed-tls_secret/name"],
    "ingress_class": [],
    "gateway_class": ["Gateway/spec/gatewayClassName"],
}


def with_changed_parameters(folder: Path, *components: str) -> Manifests:
    """Production with components, and each parameter changed."""
    overlay = with_components(folder / "kubernetes", *components)
    path = overlay / "parameters.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["data"] = {name: f"changed-{name}" for name in document["data"]}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return build(overlay)


@pytest.fixture(scope="session")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    return with_changed_parameters(tmp_path_factory.mktemp("changed"), "bucket", "redis", "monitoring")


@pytest.fixture(scope="session")
def changed_gateway(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    return with_changed_parameters(
        tmp_path_factory.mktemp("changed"), "bucket", "redis", "gateway", "traefik", "monitoring"
    )


def test_the_test_knows_every_parameter() -> None:
    assert set(WITH_INGRESS) == set(WITH_GATEWAY) == set(PARAMETERS)


@pytest.mark.parametrize("name", WITH_INGRESS)
def test_a_parameter_arrives_wherever_it_is_needed_and_nowhere_else(
    changed: Manifests, changed_gateway: Manifests, name: str
) -> None:
    assert places_of(f"changed-{name}", changed) == sorted(WITH_INGRESS[name])
    assert places_of(f"changed-{name}", changed_gateway) == sorted(WITH_GATEWAY[name])


def places_of(value: str, manifests: Manifests) -> list[str]:
    return sorted(
        f"{document['kind']}{path}"
        for document in manifests.documents
        for path, found in leaves(document)
        if found == value
    )


def test_of_the_old_values_nothing_is_left(
    changed: Manifests, changed_gateway: Manifests, everything: Manifests
) -> None:
    def places(manifests: Manifests) -> set[str]:
        values = [value for document in manifests.documents for _, value in leaves(document)]
        return {name for name, value in PARAMETERS.items() if value in values}

    assert places(everything) == set(PARAMETERS)
    assert not places(changed)
    assert not places(changed_gateway)


def test_parameters_are_not_applied_themselves(built: Manifests) -> None:
    assert [document["metadata"]["name"].rpartition("-")[0] for document in built.all("ConfigMap")] == ["tabserve"]


def test_an_image_of_production_has_a_version() -> None:
    assert re.fullmatch(r".+/tabserve:(?!latest)[^:]+", PARAMETERS["image"]), "`latest` is another one each day"


def test_a_changed_setting_replaces_the_pods(tmp_path: Path, production: Manifests) -> None:
    overlay = with_components(tmp_path / "kubernetes")
    settings = tmp_path / "kubernetes" / "base" / "settings.env"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("LOG_LEVEL=INFO", "LOG_LEVEL=WARNING"), encoding="utf-8")
    manifests = build(overlay)
    assert manifests.settings["LOG_LEVEL"] == "WARNING"
    for each in (manifests, production):
        (source,) = each.container["envFrom"]
        assert source["configMapRef"]["name"] == each.one("ConfigMap")["metadata"]["name"]
    assert manifests.one("Deployment")["spec"]["template"] != production.one("Deployment")["spec"]["template"]


def test_another_namespace_is_one_line(tmp_path: Path) -> None:
    overlay = with_components(tmp_path / "kubernetes", "bucket", "redis")
    path = overlay / "kustomization.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count("\nnamespace: tabserve\n") == 1
    path.write_text(text.replace("\nnamespace: tabserve\n", "\nnamespace: models\n"), encoding="utf-8")
    manifests = build(overlay)
    assert manifests.one("Namespace")["metadata"]["name"] == "models"
    assert {document["metadata"].get("namespace", "models") for document in manifests.documents} == {"models"}


@pytest.mark.parametrize("name", ["image", "bucket_region", "bucket_role"])
def test_a_parameter_of_pods_reaches_those_of_a_statefulset(tmp_path: Path, name: str) -> None:
    manifests = with_changed_parameters(tmp_path, "bucket", "redis", "monitoring", "decisions")
    assert places_of(f"changed-{name}", manifests) == [ARRIVES[name][0].replace("Deployment", "StatefulSet")]
