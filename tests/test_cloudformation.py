"""The CloudFormation template: what cfn-lint, its own parameters and a stand-in for AWS say of it."""

import ast
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cfnlint.decode import cfn_yaml

from tests.conftest import ROOT, free_port
from tests.test_elasticbeanstalk import options

PATH = ROOT / "deploy" / "cloudformation" / "tabserve.yaml"
TEMPLATE: dict[str, Any] = json.loads(json.dumps(cfn_yaml.load(str(PATH))))  # plain lists and dicts
BIN = Path(sys.executable).parent
PLATFORM = "64bit Amazon Linux 2023 v4.12.1 running Docker"
ENVIRONMENT = {"Bundle": "bundles/first.zip", "SolutionStack": PLATFORM}  # what makes one, beside the necessary
CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
KEY = "0123456789abcdef"
DATABASE = "postgresql://tabserve:secret@db.example.org:5432/jobs"


def given(**parameters: str) -> dict[str, str]:
    """Every parameter's value: those given, those that have no default, and the defaults."""
    necessary = {"DomainName": "scores.example.org", "HostedZoneId": "Z0123456789"}
    defaults = {name: str(spec["Default"]) for name, spec in TEMPLATE["Parameters"].items() if "Default" in spec}
    return {**defaults, **necessary, **parameters}


class Rendered:
    """The template as CloudFormation understands it with some parameters; references to resources stay as they are."""

    def __init__(self, **parameters: str) -> None:
        self.parameters = given(**parameters)
        made = {
            name: resource
            for name, resource in TEMPLATE["Resources"].items()
            if "Condition" not in resource or self.holds(resource["Condition"])
        }
        self.resources = {name: self.value(resource) for name, resource in made.items()}

    def holds(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self.holds(TEMPLATE["Conditions"][condition])
        ((function, argument),) = condition.items()
        match function:
            case "Fn::Equals":
                return self.value(argument[0]) == self.value(argument[1])
            case "Fn::Not":
                return not self.holds(argument[0])
            case "Fn::And":
                return all(self.holds(each) for each in argument)
            case "Condition":
                return self.holds(argument)
        raise AssertionError(f"no such function: {function}")

    def value(self, node: Any) -> Any:
        match node:
            case {"Ref": "AWS::NoValue"}:
                return None
            case {"Ref": name} if name in self.parameters:
                return self.parameters[name]
            case {"Fn::If": [condition, yes, no]}:
                return self.value(yes if self.holds(condition) else no)
            case dict():
                return {key: found for key, each in node.items() if (found := self.value(each)) is not None}
            case list():
                return [found for each in node if (found := self.value(each)) is not None]
        return node

    def options(self) -> dict[tuple[str, str], Any]:
        """The environment's options by namespace and name."""
        settings = self.resources["Environment"]["Properties"]["OptionSettings"]
        found = {(each["Namespace"], each["OptionName"]): each["Value"] for each in settings}
        assert len(found) == len(settings), "an option is there twice"
        return found

    def property(self, name: str) -> Any:
        """An environment property: what the container finds in its environment."""
        return self.options().get(("aws:elasticbeanstalk:application:environment", name))


def test_cfn_lint_finds_nothing() -> None:
    done = subprocess.run([BIN / "cfn-lint", PATH], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_hosted_zones_are_those_of_elastic_beanstalk() -> None:
    assert {region: zone["Id"] for region, zone in TEMPLATE["Mappings"]["HostedZones"].items()} == {
        "eu-west-1": "Z2NYPWQ7DFZAZH",
        "eu-west-2": "Z1GKAAAUGATPF1",
        "eu-west-3": "Z5WN6GAYWG5OB",
        "eu-central-1": "Z1FRNW7UH4DEZJ",
        "eu-north-1": "Z23GO28BZ5AETM",
        "us-east-1": "Z117KPS5GTRQ2G",
        "us-east-2": "Z14LCN19Q5QHIC",
        "us-west-1": "Z1LQECGX5PH1X",
        "us-west-2": "Z38NKT9BP95V3O",
        "ca-central-1": "ZJFCZL7SSZB5I",
        "sa-east-1": "Z10X7K2B4QSOFV",
        "ap-south-1": "Z18NTBI3Y7N9TZ",
        "ap-southeast-1": "Z16FZ9L249IFLT",
        "ap-southeast-2": "Z2PCDNR3VC2G1N",
        "ap-northeast-1": "Z1R25G3KIG2GBW",
        "ap-northeast-2": "Z3JE5OI70TWKCP",
    }


PATTERNS = {
    "Name": (["tabserve", "tabserve-2", "a234"], ["", "abc", "Tabserve", "2tabserve", "tabserve-", "a" * 31, "a_b_c"]),
    "DomainName": (
        ["example.org", "scores.example.org", "a-b.c.example.museum"],
        ["", "localhost", "https://example.org", "example.org.", "-a.example.org", "Example.org", "a..example.org"],
    ),
    "CertificateArn": (
        ["", CERTIFICATE],
        ["x", CERTIFICATE + "/x", CERTIFICATE.replace(":acm:", ":iam:"), "arn:aws:acm:eu-west-1::certificate/1"],
    ),
    "SolutionStack": (
        ["", PLATFORM, "64bit Amazon Linux 2023 v5.0.0 running Docker"],
        ["Docker", "64bit Amazon Linux 2 v4.0.0 running Docker", PLATFORM.replace("Docker", "Python 3.11")],
    ),
    "Bundle": (
        ["", "deployed", "bundles/tabserve-1.0.0.zip", "bundles/a_b.zip"],
        [
            "tabserve.zip",
            "bundles/",
            "bundles/.zip/x",
            "/bundles/a.zip",
            "bundles/a/b.zip",
            "bundles/a.tar",
            "DEPLOYED",
        ],
    ),
    "SigningKey": (["", KEY, "x" * 256], ["short", "x" * 257, f"{KEY}\n"]),
    "DatabaseUrl": (
        ["", DATABASE, "postgresql://u:p@db/jobs?sslmode=require"],
        [
            "sqlite:////tmp/jobs.db",
            "postgresql://db/jobs",
            "postgresql://u:p@db",
            "mysql://u:p@db/jobs",
            f"{DATABASE}\n",
        ],
    ),
    "AlarmEmail": (["", "ops@example.org"], ["ops", "ops@example", "a b@example.org", "a@b@example.org"]),
}


def test_every_pattern_has_its_examples_and_says_in_words_what_it_asks_for() -> None:
    assert {name for name, spec in TEMPLATE["Parameters"].items() if "AllowedPattern" in spec} == set(PATTERNS)
    for name, spec in TEMPLATE["Parameters"].items():
        assert spec["Description"]
        if spec["Type"] in ("String", "Number"):
            assert spec["ConstraintDescription"].endswith("."), name


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_takes_what_is_right_and_refuses_the_rest(name: str) -> None:
    pattern = re.compile(TEMPLATE["Parameters"][name]["AllowedPattern"])
    right, wrong = PATTERNS[name]
    assert [text for text in right if not pattern.fullmatch(text)] == []
    assert [text for text in wrong if pattern.fullmatch(text)] == []


@pytest.mark.parametrize("name", TEMPLATE["Parameters"])
def test_a_default_is_one_that_is_allowed(name: str) -> None:
    spec = TEMPLATE["Parameters"][name]
    if "Default" not in spec:
        return
    default = str(spec["Default"])
    assert default in map(str, spec.get("AllowedValues", [default]))
    assert re.fullmatch(spec.get("AllowedPattern", ".*"), default)
    assert spec.get("MinValue", 0) <= (int(default) if spec["Type"] == "Number" else 0) <= spec.get("MaxValue", 0)


def test_secrets_are_not_shown() -> None:
    for name in ("SigningKey", "DatabaseUrl"):
        assert TEMPLATE["Parameters"][name]["NoEcho"] is True
        assert name not in json.dumps(TEMPLATE["Outputs"])


def test_an_environment_is_refused_without_a_platform() -> None:
    (rule,) = TEMPLATE["Rules"].values()
    condition, assertion = rule["RuleCondition"], rule["Assertions"][0]["Assert"]
    for parameters, accepted in (({}, True), (ENVIRONMENT, True), ({"Bundle": "bundles/first.zip"}, False)):
        rendered = Rendered(**parameters)
        assert (not rendered.holds(condition) or rendered.holds(assertion)) is accepted


def test_the_options_are_those_of_the_bundle_and_what_only_the_template_knows() -> None:
    in_bundle, in_template = options(), Rendered(**ENVIRONMENT).options()
    document = ("aws:elasticbeanstalk:healthreporting:system", "ConfigDocument")
    assert json.loads(in_template.pop(document)) == in_bundle.pop(document)
    assert {option: in_template.get(option) for option in in_bundle} == in_bundle
    assert in_template.keys() - in_bundle.keys() == {
        ("aws:elasticbeanstalk:environment", "ServiceRole"),
        ("aws:autoscaling:launchconfiguration", "IamInstanceProfile"),
        ("aws:elbv2:listener:443", "SSLCertificateArns"),
        *(
            ("aws:elasticbeanstalk:application:environment", name)
            for name in ("USERS_S3_URI", "AUTH_REQUIRED", "MODEL_REGISTRY", "AWS_DEFAULT_REGION")
        ),
    }


def test_every_value_of_an_option_is_a_text_as_elastic_beanstalk_wants_it() -> None:
    for settings in (
        Rendered(**ENVIRONMENT),
        Rendered(**ENVIRONMENT, Models="bucket", SigningKey=KEY, DatabaseUrl=DATABASE, Users="none"),
    ):
        assert all(isinstance(value, str | dict) for value in settings.options().values())


def test_size_and_type_of_the_instances_come_from_the_parameters() -> None:
    found = Rendered(**ENVIRONMENT, MinSize="3", MaxSize="5", InstanceType="c7i.large").options()
    assert found["aws:autoscaling:asg", "MinSize"] == "3"
    assert found["aws:autoscaling:asg", "MaxSize"] == "5"
    assert found["aws:ec2:instances", "InstanceTypes"] == "c7i.large"


def test_without_a_bundle_there_is_everything_but_the_environment() -> None:
    made = Rendered().resources
    assert {"Bucket", "BucketPolicy", "ServiceRole", "InstanceProfile", "Application", "Certificate"} <= made.keys()
    kinds = {resource["Type"] for resource in made.values()}
    assert not kinds & {
        "AWS::ElasticBeanstalk::Environment",
        "AWS::ElasticBeanstalk::ApplicationVersion",
        "AWS::Route53::RecordSet",
        "AWS::CloudWatch::Alarm",
    }


def test_the_first_bundle_is_the_environments_version() -> None:
    made = Rendered(**ENVIRONMENT).resources
    assert made["Version"]["Properties"]["SourceBundle"] == {
        "S3Bucket": {"Ref": "Bucket"},
        "S3Key": "bundles/first.zip",
    }
    assert made["Environment"]["Properties"]["VersionLabel"] == {"Ref": "Version"}


def test_an_update_with_what_is_deployed_names_no_version_that_it_could_fall_back_to() -> None:
    first, later = Rendered(**ENVIRONMENT), Rendered(**ENVIRONMENT | {"Bundle": "deployed"})
    before, after = (rendered.resources["Environment"]["Properties"] for rendered in (first, later))
    assert "VersionLabel" not in after
    assert after == {name: value for name, value in before.items() if name != "VersionLabel"}
    assert "Version" not in later.resources
    version = TEMPLATE["Resources"]["Version"]
    assert version["DeletionPolicy"] == version["UpdateReplacePolicy"] == "Retain"


def test_the_platform_is_given_by_what_an_update_of_the_stack_never_sends() -> None:
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-west-1", "AWS::ElasticBeanstalk::Environment").schema
    assert "/properties/SolutionStackName" in schema["createOnlyProperties"]
    assert "PlatformArn" not in Rendered(**ENVIRONMENT).resources["Environment"]["Properties"]


def test_users_come_from_the_bucket_unless_predictions_are_for_everybody() -> None:
    closed, opened = Rendered(**ENVIRONMENT), Rendered(**ENVIRONMENT, Users="none")
    assert closed.property("USERS_S3_URI") == {"Fn::Sub": "s3://${Bucket}/users.txt"}
    assert closed.property("AUTH_REQUIRED") == "true"  # said, since a property that is left out may stay "false"
    assert opened.property("USERS_S3_URI") is None
    assert opened.property("AUTH_REQUIRED") == "false"


def test_models_come_from_the_image_or_from_the_bucket() -> None:
    assert Rendered(**ENVIRONMENT).property("MODEL_REGISTRY") == "/app/models"
    in_bucket = Rendered(**ENVIRONMENT, Models="bucket").property("MODEL_REGISTRY")
    assert in_bucket == {"Fn::Sub": "s3://${Bucket}/models"}


@pytest.mark.parametrize(
    ("parameter", "value", "setting"),
    [("SigningKey", KEY, "MODEL_SIGNING_KEY"), ("DatabaseUrl", DATABASE, "DATABASE_URL")],
)
def test_what_nobody_may_read_is_a_secret_and_no_property_of_the_environment(
    parameter: str, value: str, setting: str
) -> None:
    rendered, secret = Rendered(**ENVIRONMENT, **{parameter: value}), f"{parameter}Secret"
    assert rendered.resources[secret]["Properties"]["SecretString"] == value
    assert rendered.property(setting) is None
    secrets = "aws:elasticbeanstalk:application:environmentsecrets"
    assert rendered.options()[secrets, setting] == {"Ref": secret}
    assert value not in json.dumps(rendered.resources["Environment"])
    assert secret in json.dumps(rendered.resources["InstanceRole"])
    assert secret not in json.dumps(Rendered(**ENVIRONMENT).resources)


def test_a_client_stays_with_its_instance_unless_all_share_their_jobs() -> None:
    option = ("aws:elasticbeanstalk:environment:process:default", "StickinessEnabled")
    assert Rendered(**ENVIRONMENT).options()[option] == "true"
    assert Rendered(**ENVIRONMENT, DatabaseUrl=DATABASE).options()[option] == "false"


def test_the_certificate_is_made_unless_it_is_given() -> None:
    option = ("aws:elbv2:listener:443", "SSLCertificateArns")
    made = Rendered(**ENVIRONMENT)
    assert made.options()[option] == {"Ref": "Certificate"}
    assert made.resources["Certificate"]["Properties"] == {
        "DomainName": "scores.example.org",
        "ValidationMethod": "DNS",
        "DomainValidationOptions": [{"DomainName": "scores.example.org", "HostedZoneId": "Z0123456789"}],
    }
    given_one = Rendered(**ENVIRONMENT, CertificateArn=CERTIFICATE)
    assert given_one.options()[option] == CERTIFICATE
    assert "Certificate" not in given_one.resources


def test_the_record_points_to_the_environments_name() -> None:
    made = Rendered(**ENVIRONMENT).resources
    prefix = made["Environment"]["Properties"]["CNAMEPrefix"]["Fn::Sub"]
    target = made["Record"]["Properties"]["AliasTarget"]["DNSName"]["Fn::Sub"]
    assert target == prefix + ".${AWS::Region}.elasticbeanstalk.com"
    assert TEMPLATE["Resources"]["Record"]["DependsOn"] == "Environment"


def test_alarms_look_at_metrics_that_are_published_and_tell_the_topic() -> None:
    published = options()["aws:elasticbeanstalk:healthreporting:system", "ConfigDocument"]["CloudWatchMetrics"]
    made = Rendered(**ENVIRONMENT).resources.values()
    alarms = [resource["Properties"] for resource in made if resource["Type"] == "AWS::CloudWatch::Alarm"]
    assert {alarm["MetricName"] for alarm in alarms} == {*published["Environment"], "EnvironmentHealth"}
    for alarm in alarms:
        assert alarm["Namespace"] == "AWS/ElasticBeanstalk"
        assert alarm["Dimensions"] == [{"Name": "EnvironmentName", "Value": {"Ref": "Environment"}}]
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "Alarms"}]


def test_nobody_may_do_everything() -> None:
    def statements(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if node.get("Effect") == "Allow":
                yield node
            for each in node.values():
                yield from statements(each)
        elif isinstance(node, list):
            for each in node:
                yield from statements(each)

    found = list(statements(Rendered(**ENVIRONMENT, SigningKey=KEY).resources))
    assert len(found) > 10
    for statement in found:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if re.fullmatch(r"\*|[a-z0-9]+:\*", action)]
        if statement.get("Resource") == "*":
            assert all(re.match(r"[a-z0-9]+:(Describe|List|Get)", action) for action in actions)


def test_the_user_that_deploys_reaches_models_and_bundles_and_not_the_users() -> None:
    (policy,) = [made for made in TEMPLATE["Resources"].values() if made["Type"] == "AWS::IAM::ManagedPolicy"]
    allowed = [each for each in policy["Properties"]["PolicyDocument"]["Statement"] if "s3:GetObject" in each["Action"]]
    reached = json.dumps([each["Resource"] for each in allowed])
    assert "${Bucket.Arn}/models*" in reached
    assert "${Bucket.Arn}/bundles/*" in reached
    assert "users" not in reached
    assert "${Bucket.Arn}/*" not in reached


def test_the_outputs_are_what_a_delivery_has_to_know() -> None:
    wanted = {"Url", "BucketName", "ApplicationName", "EnvironmentName", "DeployPolicyArn", "AlarmTopicArn"}
    assert set(TEMPLATE["Outputs"]) == wanted


class Aws:
    """A stand-in for AWS over HTTP on this machine: moto's server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self, name: str) -> Any:
        return boto3.client(
            name,
            endpoint_url=self._url,
            region_name="eu-west-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def make_stack(self, name: str, **parameters: str) -> dict[str, str]:
        """Make a stack; its outputs."""
        formation = self.client("cloudformation")
        formation.create_stack(
            StackName=name,
            TemplateBody=PATH.read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": text} for key, text in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        (stack,) = formation.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("aws") / "log.txt"
    with log.open("wb") as file:
        command = [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    pytest.fail(f"moto did not start:\n{log.read_text()}")
                time.sleep(0.05)
        yield Aws(url)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def zone(aws: Aws) -> str:
    made = aws.client("route53").create_hosted_zone(Name="example.org", CallerReference="tests")
    return str(made["HostedZone"]["Id"].rpartition("/")[2])


# What moto does not know it leaves out without an error: Elastic Beanstalk, alarms, certificate, secret, bucket policy.
@pytest.fixture(scope="module")
def first(aws: Aws, zone: str) -> dict[str, str]:
    return aws.make_stack("first", DomainName="scores.example.org", HostedZoneId=zone)


def test_the_bucket_is_versioned_encrypted_and_private(aws: Aws, first: dict[str, str]) -> None:
    found = aws.client("s3").get_bucket_encryption(Bucket=first["BucketName"])
    (rule,) = found["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    # the rest of a bucket's properties moto does not take from a stack
    properties = TEMPLATE["Resources"]["Bucket"]["Properties"]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(properties["PublicAccessBlockConfiguration"]) == {
        "BlockPublicAcls",
        "BlockPublicPolicy",
        "IgnorePublicAcls",
        "RestrictPublicBuckets",
    }
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    (lifecycle,) = properties["LifecycleConfiguration"]["Rules"]
    assert (lifecycle["Status"], lifecycle["NoncurrentVersionExpiration"]) == ("Enabled", {"NoncurrentDays": 90})


def test_the_bucket_outlives_the_stack_and_is_reached_by_tls_alone() -> None:
    for name in ("Bucket", "BucketPolicy"):
        resource = TEMPLATE["Resources"][name]
        assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"
    (statement,) = TEMPLATE["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_instances_may_read_models_users_and_bundles_and_nothing_else(aws: Aws, first: dict[str, str]) -> None:
    iam = aws.client("iam")
    (role,) = [each for each in iam.list_roles()["Roles"] if each["RoleName"].startswith("first-InstanceRole")]
    name = role["RoleName"]
    (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
    document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    # moto answers with what Python prints of it, and with None for the statement that is left out
    objects, listing = filter(None, ast.literal_eval(document)["Statement"])
    bucket = f"arn:aws:s3:::{first['BucketName']}"
    assert objects["Action"] == "s3:GetObject"
    assert set(objects["Resource"]) == {f"{bucket}/models*", f"{bucket}/bundles/*", f"{bucket}/users.txt"}
    assert (listing["Action"], listing["Resource"]) == ("s3:ListBucket", bucket)
    (profile,) = iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"]
    assert profile["InstanceProfileName"].startswith("first-InstanceProfile")
    managed = TEMPLATE["Resources"]["InstanceRole"]["Properties"]["ManagedPolicyArns"]
    assert managed == ["arn:aws:iam::aws:policy/AWSElasticBeanstalkWebTier"]


def test_without_a_bundle_there_is_no_record(aws: Aws, zone: str, first: dict[str, str]) -> None:
    assert "Url" not in first
    assert not records(aws, zone, "scores.example.org")


def test_with_one_the_name_is_an_alias_of_the_environment(aws: Aws, zone: str) -> None:
    outputs = aws.make_stack("second", DomainName="api.example.org", HostedZoneId=zone, **ENVIRONMENT)
    assert outputs["Url"] == "https://api.example.org"
    account = aws.client("sts").get_caller_identity()["Account"]
    (record,) = records(aws, zone, "api.example.org")
    assert record["Type"] == "A"
    assert record["AliasTarget"] == {
        "HostedZoneId": "Z2NYPWQ7DFZAZH",
        "DNSName": f"tabserve-{account}.eu-west-1.elasticbeanstalk.com",
        "EvaluateTargetHealth": False,
    }


def records(aws: Aws, zone: str, name: str) -> list[dict[str, Any]]:
    found = aws.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return [record for record in found if record["Name"].rstrip(".") == name]
