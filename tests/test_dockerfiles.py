"""What Dockerfiles and compose.yaml say: that linters accept it, and that it agrees with the service."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import distributed
import pytest
import yaml

from tabserve.api.companion import GRACE
from tabserve.settings import RegistrySettings, Settings
from tests.conftest import ROOT

SERVICE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
ON_THE_BASE = [f"deploy/compose/{name}Dockerfile" for name in ("", "database/", "bucket/")]
ON_THE_SERVICE = ["Dockerfile.test", "deploy/compose/cluster/Dockerfile"]
DOCKERFILES = ["Dockerfile", *ON_THE_SERVICE, *ON_THE_BASE]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SCALE, CLUSTER = ("replica", "proxy", "database"), ("scheduler", "worker", "client", "bucket")
MONITORING = ("prometheus", "grafana")
SAME = ("image", "environment", "volumes", "user", "networks")
LOCKED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


def linted(tool: str, *arguments: str) -> None:
    done = subprocess.run([Path(sys.executable).with_name(tool), *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    linted("hadolint", name)


def test_compose_yaml_is_valid() -> None:
    linted("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_each_profile_of_compose_yaml_has_what_its_services_refer_to() -> None:
    for service in COMPOSE["services"].values():
        profiles = service.get("profiles", [])
        for needed in service.get("depends_on", {}):
            assert set(COMPOSE["services"][needed].get("profiles", profiles)) >= set(profiles)
        assert set(service.get("networks", [])) <= {"default", *COMPOSE["networks"]}
        assert {secret["source"] for secret in service.get("secrets", [])} <= set(COMPOSE["secrets"])
        places = {volume.partition(":")[0] for volume in service.get("volumes", []) if volume[0] not in "./$"}
        assert places <= set(COMPOSE["volumes"])
        if isinstance(service.get("build"), dict):
            assert (ROOT / service["build"]["dockerfile"]).exists()


def instructions(name: str, text: str = SERVICE) -> list[str]:
    """The arguments of an instruction, each time it is given, its lines joined."""
    joined = text.replace("\\\n", " ")
    return re.findall(rf"^{name} +(.+)$", joined, re.MULTILINE)


def test_there_is_one_base_by_version() -> None:
    stages = [re.fullmatch(r"(\S+)(?: AS (\w+))?", stage) for stage in instructions("FROM")]
    names = {stage[2] for stage in stages if stage}
    bases = {stage[1] for stage in stages if stage} - names
    assert bases == {"python:3.13-slim-trixie"}
    for name in ON_THE_BASE:
        assert set(instructions("FROM", (ROOT / name).read_text())) == bases
    for name in ON_THE_SERVICE:
        assert {stage.split()[0] for stage in instructions("FROM", (ROOT / name).read_text())} == {"$IMAGE"}
    assert "training" in names
    assert stages[-1]
    assert stages[-1][2] is None  # what is built without a target: the service


def test_version_and_commit_are_arguments_that_a_bundle_can_rewrite() -> None:
    # Elastic Beanstalk gives no arguments: deploy/bundle writes them into these two lines
    for line in ("ARG VERSION=unknown", "ARG COMMIT=unknown", "ARG HOLD_OUT=false"):
        assert SERVICE.splitlines().count(line) == 1


def test_the_rows_of_people_stay_out_of_the_image_unless_asked_for() -> None:
    stages = re.split(r"^FROM ", SERVICE, flags=re.MULTILINE)
    (models,) = [stage for stage in stages if stage.startswith("app AS models\n")]
    assert "\nARG HOLD_OUT\n" in models
    assert 'tabserve models copy --hold-out="$HOLD_OUT" /models\n' in models
    assert instructions("COPY", stages[-1]) == ["--from=models /models models"]


def test_the_service_is_what_the_settings_say() -> None:
    assert instructions("EXPOSE") == [str(Settings().port)]
    assert instructions("USER")[-1] == "10001:10001"
    assert json.loads(instructions("CMD")[-1]) == ["tabserve", "serve"]
    (check,) = instructions("HEALTHCHECK")
    assert "/ready" in " ".join(json.loads(check[check.index("[") :]))
    variables = dict(re.findall(r"(\w+)=(\S+)", " ".join(instructions("ENV"))))
    assert variables["AUTH_USERS_FILE"] == "/etc/tabserve/users.txt"
    assert variables["MODEL_CACHE"].startswith("/tmp/")
    assert variables["DATABASE_URL"] == "sqlite:////tmp/jobs.db"
    assert "AUTH_REQUIRED" not in variables  # users are needed unless who runs it says otherwise
    ours = {name: value for name, value in variables.items() if name.lower() in {one.name for one in fields(Settings)}}
    Settings.from_environment(ours)


def test_the_dockerfile_copies_what_there_is() -> None:
    for arguments in instructions("COPY"):
        if "--from" not in arguments:
            sources = [source for source in arguments.split()[:-1] if source != "model[s]"]
            assert sources
            for source in sources:
                assert list(ROOT.glob(source)), source


def test_services_are_locked_down_and_reached_from_this_machine_alone() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        if name == "tests":
            continue
        assert {key: service[key] for key in LOCKED} == LOCKED
        assert service["tmpfs"].partition(":")[0] == "/tmp"
        assert service["mem_limit"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert services["api"]["mem_limit"] == "512m"
    assert services["api"]["cpus"] == 1
    assert "profiles" not in services["api"]
    profiles = {name: service["profiles"] for name, service in services.items() if name != "api"}
    groups = {"scale": SCALE, "cluster": CLUSTER, "monitoring": MONITORING}
    expected = {name: [profile] for profile, names in groups.items() for name in names}
    assert profiles == {**expected, "tests": ["tests"], "database": ["scale", "decisions"]}


def test_jobs_do_not_fill_the_services_memory() -> None:
    service = COMPOSE["services"]["api"]
    ((volume, folder),) = (mount.split(":") for mount in service["volumes"])
    assert volume in COMPOSE["volumes"]
    assert Path(service["environment"]["DECISION_SPOOL_FOLDER"]).parent == Path(folder)
    assert Path(urlsplit(service["environment"]["DATABASE_URL"]).path[1:]).parent == Path(folder)
    assert f"install --directory --mode 1777 {folder}" in SERVICE  # a new volume takes over owner and mode


def test_the_replicas_share_a_database_that_only_the_service_reaches() -> None:
    services = COMPOSE["services"]
    address = urlsplit(services["replica"]["environment"]["DATABASE_URL"])
    assert (address.scheme, address.hostname) == ("postgresql", "database")
    assert services["replica"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert [name for name, service in services.items() if "database" in service.get("networks", [])] == [
        "api",
        "replica",
        "database",
    ]
    assert services["database"]["networks"] == ["database"]
    assert "ports" not in services["database"]
    assert COMPOSE["networks"]["database"] == {"internal": True}


def test_prometheus_and_grafana_are_pinned_and_metrics_stay_in_a_network_of_their_own() -> None:
    services = COMPOSE["services"]
    for name in MONITORING:
        assert re.search(r":v?\d+\.\d+\.\d+}$", services[name]["image"])
        for mount in services[name]["volumes"]:
            source = mount.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
    assert [name for name, service in services.items() if "monitoring" in service.get("networks", [])] == [
        "api",
        *MONITORING,
    ]
    assert services["prometheus"]["networks"] == ["monitoring"]
    assert "ports" not in services["prometheus"]
    assert COMPOSE["networks"]["monitoring"] == {"internal": True}
    scrapes = yaml.safe_load((ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = scrapes[0]["dns_sd_configs"]
    assert target["names"] == ["api"]
    assert f"METRICS=:{target['port']} docker compose --profile monitoring up" in (ROOT / "compose.yaml").read_text()


def test_uploads_under_way_fill_the_proxys_disk_and_not_its_memory() -> None:
    proxy = COMPOSE["services"]["proxy"]
    (size,) = re.findall(r"size=(\d+)m", proxy["tmpfs"])
    assert int(size) + 100 <= int(proxy["mem_limit"].removesuffix("m"))


def test_compose_gives_settings_that_there_are_and_the_users_file_where_the_image_looks() -> None:
    names = {setting.name.upper() for setting in fields(Settings)}
    for name in ("api", "replica"):
        service: dict[str, Any] = COMPOSE["services"][name]
        assert service["environment"].keys() <= names
        assert service["secrets"] == [{"source": "users", "target": "/etc/tabserve/users.txt"}]
    assert COMPOSE["services"]["replica"]["environment"]["TRUSTED_PROXIES"] == 1


def test_those_in_front_leave_the_service_its_time_and_its_limits() -> None:
    nginx = (ROOT / "deploy" / "compose" / "nginx.conf").read_text(encoding="utf-8")
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert int(megabytes) * 1024**2 > Settings().max_content_length
    grace = int(COMPOSE["services"]["api"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings().graceful_timeout + GRACE


def test_nobody_but_the_cluster_is_in_its_network_and_no_port_is_published() -> None:
    services = COMPOSE["services"]
    assert [name for name, service in services.items() if "cluster" in service.get("networks", [])] == [*CLUSTER]
    for name in CLUSTER:
        assert services[name]["networks"] == ["cluster"]
        assert "ports" not in services[name]


def test_all_of_the_cluster_see_the_same_models_and_tables() -> None:
    first, *others = [COMPOSE["services"][name] for name in CLUSTER[:3]]
    settings = {setting.name.upper() for setting in fields(RegistrySettings)}
    assert {name for name in first["environment"] if not name.startswith("AWS_")} <= settings
    for other in others:
        assert {key: other[key] for key in SAME} == {key: first[key] for key in SAME}
    bucket = COMPOSE["services"]["bucket"]["environment"]["BUCKET"]
    assert f"s3://{bucket}/" in first["environment"]["MODEL_REGISTRY"]


def test_a_client_begins_when_there_are_workers_and_these_when_there_is_a_scheduler() -> None:
    services = COMPOSE["services"]
    is_healthy = {"condition": "service_healthy"}
    assert services["client"]["depends_on"] == {"worker": is_healthy}
    assert services["worker"]["depends_on"] == {"scheduler": is_healthy, "bucket": is_healthy}
    assert services["worker"]["deploy"] == {"replicas": 2}
    assert "tcp://scheduler:8786" in services["worker"]["command"]


def test_dasks_configuration_is_one_and_logs_nothing_of_what_tasks_do() -> None:
    configuration = yaml.safe_load((ROOT / "deploy" / "dask.yaml").read_text(encoding="utf-8"))
    (formatter,) = configuration["logging"]["formatters"].values()
    assert formatter["()"] == "tabserve.log.OneLine"
    assert set(configuration["logging"]["handlers"]) == set(configuration["logging"]["root"]["handlers"])
    worker = configuration["distributed"]["worker"]["memory"]
    assert (worker["target"], worker["spill"]) == (False, False), "nothing is written to a worker's disk"
    known = yaml.safe_load((Path(distributed.__file__).parent / "distributed.yaml").read_text(encoding="utf-8"))
    assert keys(configuration["distributed"]) <= keys(known["distributed"])


def keys(node: Any, path: str = "") -> set[str]:
    """The places of a configuration's values."""
    if not isinstance(node, dict):
        return {path}
    return set().union(*(keys(inner, f"{path}/{name}") for name, inner in node.items()))
