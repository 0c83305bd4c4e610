"""deploy/monitoring: Prometheus accepts the rules, they do what they say, and all metrics that they name are there."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tabserve.api.metrics.catalogue import BY_NAME, COUNTER, HISTOGRAM
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RUNBOOK = (FOLDER / "runbook.md").read_text()
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "tabserve.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
OF_A_HISTOGRAM = ("_bucket", "_count", "_sum")
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
OF_TARGETS = {"job", "instance"}  # labels that Prometheus adds
PARTS = ("Means", "Clients see", "Look", "Do", "Afterwards")


def promtool(*arguments: str) -> str:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: Debian has it in its package prometheus")
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_the_rules_and_its_own_settings(tmp_path: Any) -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "rules.yaml")
    settings = (FOLDER / "prometheus.yml").read_text().replace("/etc/prometheus/", f"{FOLDER}/")
    (tmp_path / "prometheus.yml").write_text(settings)
    assert str(FOLDER) in settings
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_alerts_come_when_they_should_and_not_otherwise() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yaml")


def test_each_alert_is_seen_to_come() -> None:
    tests = (FOLDER / "rules_test.yaml").read_text()
    assert {name for name in ALERTS if name in tests} == {*ALERTS}


def names_in(query: str) -> dict[str, set[str]]:
    """The series that a query names, each with the labels by which they are selected."""
    bare = re.sub(r'"[^"]*"', '""', query)
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"\b(tabserve_\w+|up|ALERTS|process_\w+)\b(?:{([^}]*)})?", bare):
        found.setdefault(name, set()).update(re.findall(r"(\w+)(?==|!)", labels))
    return found


def labels_of(series: str) -> set[str]:
    """The labels of a series that the service shows."""
    if series in OF_PROMETHEUS:
        return OF_PROMETHEUS[series]
    name, suffix = series, ""
    for end in OF_A_HISTOGRAM:
        if series.endswith(end):
            name, suffix = series.removesuffix(end), end
    metric = BY_NAME[name]
    assert (metric.kind == HISTOGRAM) == bool(suffix), series
    assert (metric.kind == COUNTER) == name.endswith("_total"), series
    return {*metric.labels, *OF_TARGETS, *(["le"] if suffix == "_bucket" else [])}


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_queries_name_what_the_service_shows(query: str) -> None:
    grouped = {label for part in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in part.split(", ")}
    names, known = names_in(query), {*OF_TARGETS}
    for series, selected in names.items():
        assert selected <= labels_of(series), series
        known |= labels_of(series)
    assert grouped <= known
    recorded = set(re.findall(r"tabserve:\w+:\w+", query))
    assert recorded <= {rule.get("record") for rule in RULES}
    assert names or recorded


def test_the_check_of_queries_sees_what_is_not_there() -> None:
    with pytest.raises(KeyError):
        test_queries_name_what_the_service_shows("rate(tabserve_nothing_total[5m])")
    with pytest.raises(AssertionError):
        test_queries_name_what_the_service_shows('tabserve_requests_total{colour="red"}')
    with pytest.raises(AssertionError):
        test_queries_name_what_the_service_shows("sum by (colour) (tabserve_requests_total)")


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len({*ids}) == len(ids)
    sources = yaml.safe_load((FOLDER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    uids = {source["uid"] for source in sources["datasources"]}
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel} == uids


def test_the_dashboard_shows_all_metrics() -> None:
    shown = {re.sub("_bucket$", "", name) for query in QUERIES for name in names_in(query)}
    assert {*BY_NAME} - shown <= {"tabserve_uncounted_total"}


def test_each_alert_has_its_entry_in_the_runbook_and_says_where() -> None:
    entries = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert entries == [*ALERTS]
    for name, rule in ALERTS.items():
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"deploy/monitoring/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.parametrize("entry", RUNBOOK.split("\n## ")[1:], ids=lambda entry: entry.partition("\n")[0])
def test_an_entry_says_what_it_means_what_to_look_at_and_what_to_do(entry: str) -> None:
    assert tuple(re.findall(r"^\*\*(.+?):\*\*", entry, re.MULTILINE)) == PARTS


def test_links_and_queries_of_the_runbook_lead_somewhere() -> None:
    for target in re.findall(r"\]\(#(\w+)\)", RUNBOOK):
        assert target in {name.lower() for name in ALERTS}
    for query in re.findall(r"`([^`]*tabserve_[^`]*)`", RUNBOOK):
        for series, selected in names_in(query).items():
            assert selected <= labels_of(series)
