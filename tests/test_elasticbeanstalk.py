"""What lies in the bundle for Elastic Beanstalk: its options, the volume, and the hook that fetches the users file."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "elasticbeanstalk"
HOOK = FOLDER / ".platform" / "hooks" / "predeploy" / "10_users.sh"
CONFIG_HOOK = FOLDER / ".platform" / "confighooks" / "predeploy" / "10_users.sh"
HOOKS = (HOOK, CONFIG_HOOK)
CONTAINER_USER = 10001


def options() -> dict[tuple[str, str], Any]:
    """Every option of .ebextensions by namespace and name, as a text or, for JSON, as a dict."""
    found: dict[tuple[str, str], Any] = {}
    for path in sorted((FOLDER / ".ebextensions").iterdir()):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(content) == {"option_settings"}, path
        settings = content["option_settings"]
        if isinstance(settings, dict):
            each = [(namespace, name, value) for namespace, names in settings.items() for name, value in names.items()]
        else:
            each = [(setting["namespace"], setting["option_name"], setting["value"]) for setting in settings]
        for namespace, name, value in each:
            assert (namespace, name) not in found
            found[namespace, name] = value if isinstance(value, dict) else as_text(value)
    return found


def as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_only_config_files_are_read_by_elastic_beanstalk_so_there_are_no_others() -> None:
    assert {path.suffix for path in (FOLDER / ".ebextensions").iterdir()} == {".config"}


def test_the_options_are_exactly_these() -> None:
    environment, process = "aws:elasticbeanstalk:environment", "aws:elasticbeanstalk:environment:process:default"
    group, trigger = "aws:autoscaling:asg", "aws:autoscaling:trigger"
    launch, command = "aws:autoscaling:launchconfiguration", "aws:elasticbeanstalk:command"
    rolling, logs = "aws:autoscaling:updatepolicy:rollingupdate", "aws:elasticbeanstalk:cloudwatch:logs"
    managed, health = "aws:elasticbeanstalk:managedactions", "aws:elasticbeanstalk:healthreporting:system"
    found = options()
    found.pop((health, "ConfigDocument"))
    assert found == {
        (environment, "EnvironmentType"): "LoadBalanced",
        (environment, "LoadBalancerType"): "application",
        (process, "Port"): "80",
        (process, "Protocol"): "HTTP",
        (process, "HealthCheckPath"): "/ready",
        (process, "MatcherHTTPCode"): "200",
        (process, "StickinessEnabled"): "true",
        (process, "DeregistrationDelay"): "40",
        ("aws:elbv2:listener:default", "ListenerEnabled"): "true",
        ("aws:elbv2:listener:default", "Protocol"): "HTTP",
        ("aws:elbv2:listener:443", "ListenerEnabled"): "true",
        ("aws:elbv2:listener:443", "Protocol"): "HTTPS",
        ("aws:elbv2:listener:443", "SSLPolicy"): "ELBSecurityPolicy-TLS13-1-2-2021-06",
        (group, "MinSize"): "2",
        (group, "MaxSize"): "8",
        (group, "Cooldown"): "300",
        (trigger, "MeasureName"): "CPUUtilization",
        (trigger, "Statistic"): "Average",
        (trigger, "Unit"): "Percent",
        (trigger, "UpperThreshold"): "60",
        (trigger, "LowerThreshold"): "20",
        (trigger, "Period"): "5",
        (trigger, "BreachDuration"): "5",
        (trigger, "UpperBreachScaleIncrement"): "1",
        (trigger, "LowerBreachScaleIncrement"): "-1",
        ("aws:ec2:instances", "InstanceTypes"): "t3.small",
        (launch, "DisableIMDSv1"): "true",
        (launch, "RootVolumeType"): "gp3",
        (launch, "RootVolumeSize"): "16",
        (command, "DeploymentPolicy"): "RollingWithAdditionalBatch",
        (command, "BatchSizeType"): "Percentage",
        (command, "BatchSize"): "30",
        (command, "Timeout"): "600",
        (rolling, "RollingUpdateEnabled"): "true",
        (rolling, "RollingUpdateType"): "Health",
        (rolling, "MaxBatchSize"): "1",
        (rolling, "MinInstancesInService"): "1",
        (managed, "ManagedActionsEnabled"): "true",
        (managed, "PreferredStartTime"): "Sun:03:00",
        (f"{managed}:platformupdate", "UpdateLevel"): "minor",
        (logs, "StreamLogs"): "true",
        (logs, "RetentionInDays"): "30",
        (logs, "DeleteOnTerminate"): "false",
        ("aws:elasticbeanstalk:application:environment", "TRUSTED_PROXIES"): "2",
        (health, "SystemType"): "enhanced",
    }


def test_answers_of_4xx_do_not_make_the_environment_unhealthy_and_alarms_have_their_metrics() -> None:
    document = options()["aws:elasticbeanstalk:healthreporting:system", "ConfigDocument"]
    assert json.loads(json.dumps(document)) == {
        "Version": 1,
        "Rules": {
            "Environment": {
                "Application": {"ApplicationRequests4xx": {"Enabled": False}},
                "ELB": {"ELBRequests4xx": {"Enabled": False}},
            }
        },
        "CloudWatchMetrics": {
            "Environment": {"ApplicationRequests5xx": 60, "ApplicationLatencyP99": 60, "InstancesSevere": 60},
            "Instance": {},
        },
    }


def test_the_container_gets_the_folder_of_the_users_file_and_is_built_from_the_dockerfile() -> None:
    assert json.loads((FOLDER / "Dockerrun.aws.json").read_text(encoding="utf-8")) == {
        "AWSEBDockerrunVersion": "1",
        "Volumes": [{"HostDirectory": "/etc/tabserve", "ContainerDirectory": "/etc/tabserve"}],
    }
    assert "folder=${1:-/etc/tabserve}" in HOOK.read_text(encoding="utf-8")


def test_no_docker_compose_file_is_there_which_would_take_nginx_away() -> None:
    assert not list(FOLDER.glob("docker-compose.*"))


@pytest.mark.parametrize("hook", HOOKS, ids=lambda path: path.parent.parent.name)
def test_a_hook_is_executable_and_names_its_interpreter(hook: Path) -> None:
    assert hook.stat().st_mode & stat.S_IXUSR
    assert hook.read_bytes().startswith(b"#!/usr/bin/env bash\n")
    assert b"\r" not in hook.read_bytes()


def test_scripts_are_clean_to_shellcheck() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [
            "shellcheck",
            *HOOKS,
            *(ROOT / name for name in ("deploy/compose/replace", "deploy/compose/database/start", ".ci/run")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


class Instance:
    """The part of an instance that the hook sees: its programs, of which two are played, and /etc/tabserve."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "etc" / "tabserve"
        self.users = self.folder / "users.txt"
        self.bucket = tmp_path / "bucket"
        self.properties = tmp_path / "properties.json"
        self.asked = tmp_path / "asked.txt"
        self.programs = tmp_path / "bin"
        for folder in (self.bucket, self.programs):
            folder.mkdir()
        self.program("get-config", f'[[ $* == environment ]] && cat "{self.properties}"')
        self.program(
            "aws",
            f'echo "$*" >>"{self.asked}"\n'
            '[[ "$1 $2 $3" == "s3 cp --only-show-errors" ]] || exit 2\n'
            f'cp "{self.bucket}/${{4##*/}}" "$5"',
        )
        if os.geteuid() != 0:
            self.program("chown", f'[[ "$1" == {CONTAINER_USER}:{CONTAINER_USER} ]]')

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)

    def deploy(self, properties: object, hook: Path = HOOK) -> subprocess.CompletedProcess[str]:
        self.properties.write_text(properties if isinstance(properties, str) else json.dumps(properties))
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}"}
        return subprocess.run([hook, self.folder], env=environment, capture_output=True, text=True, timeout=60)

    def left_over(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path != self.users] if self.folder.exists() else []


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


PROPERTIES = {"USERS_S3_URI": "s3://tabserve-bucket/users.txt", "TRUSTED_PROXIES": "2"}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda path: path.parent.parent.name)
def test_the_users_file_is_fetched_for_the_containers_user_alone(instance: Instance, hook: Path) -> None:
    (instance.bucket / "users.txt").write_text("alice:hash\n")
    done = instance.deploy(PROPERTIES, hook)
    assert (done.returncode, done.stderr) == (0, "")
    assert instance.users.read_text() == "alice:hash\n"
    assert stat.S_IMODE(instance.users.stat().st_mode) == 0o400
    assert stat.S_IMODE(instance.folder.stat().st_mode) == 0o755
    if os.geteuid() == 0:
        assert (instance.users.stat().st_uid, instance.users.stat().st_gid) == (CONTAINER_USER, CONTAINER_USER)
    assert "s3://tabserve-bucket/users.txt" in instance.asked.read_text()
    assert not instance.left_over()


def test_a_later_deployment_replaces_the_file_in_one_step(instance: Instance) -> None:
    (instance.bucket / "users.txt").write_text("alice:hash\n")
    assert instance.deploy(PROPERTIES).returncode == 0
    with instance.users.open() as being_read:
        (instance.bucket / "users.txt").write_text("bob:hash\n")
        assert instance.deploy(PROPERTIES).returncode == 0
        assert being_read.read() == "alice:hash\n"  # another file: nobody reads half of one
    assert instance.users.read_text() == "bob:hash\n"


@pytest.mark.parametrize("properties", [{}, {"USERS_S3_URI": ""}, {"TRUSTED_PROXIES": "2"}])
def test_without_the_property_nothing_is_done(instance: Instance, properties: dict[str, str]) -> None:
    done = instance.deploy(properties)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not instance.folder.exists()
    assert not instance.asked.exists()


def fetched_once(instance: Instance) -> None:
    (instance.bucket / "users.txt").write_text("alice:hash\n")
    assert instance.deploy(PROPERTIES).returncode == 0
    (instance.bucket / "users.txt").unlink()


def test_a_failed_fetch_stops_the_deployment_and_keeps_the_file(instance: Instance) -> None:
    fetched_once(instance)
    done = instance.deploy(PROPERTIES)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("Tabserve: the users file that USERS_S3_URI names cannot be fetched")
    assert instance.users.read_text() == "alice:hash\n"
    assert not instance.left_over()


def test_an_empty_file_is_refused_and_the_old_one_kept(instance: Instance) -> None:
    fetched_once(instance)
    (instance.bucket / "users.txt").touch()
    done = instance.deploy(PROPERTIES)
    assert done.returncode != 0
    assert done.stderr == "Tabserve: the users file that USERS_S3_URI names is empty.\n"
    assert instance.users.read_text() == "alice:hash\n"
    assert not instance.left_over()


@pytest.mark.parametrize("uri", ["https://example.org/users.txt", "s3://bucket", "s3://bucket/", "s3:///users", "x"])
def test_another_form_of_address_is_refused(instance: Instance, uri: str) -> None:
    done = instance.deploy({"USERS_S3_URI": uri})
    assert done.returncode != 0
    assert done.stderr == "Tabserve: USERS_S3_URI must be of the form s3://bucket/key.\n"
    assert not instance.asked.exists()


def test_properties_that_cannot_be_read_stop_the_deployment(instance: Instance) -> None:
    instance.program("get-config", "exit 1")
    done = instance.deploy({})
    assert done.returncode != 0
    assert done.stderr == "Tabserve: the environment properties cannot be read.\n"


def test_properties_that_are_no_json_stop_the_deployment(instance: Instance) -> None:
    done = instance.deploy("no JSON")
    assert done.returncode != 0
    assert done.stderr == "Tabserve: the environment properties cannot be understood.\n"
