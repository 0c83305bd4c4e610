"""deploy/monitoring: Prometheus accepts the rules, they do what they say, and all metrics that they name are there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import jsonschema
import pytest
import yaml

from tabserve.api.metrics.catalogue import BY_NAME, COUNTER, HISTOGRAM
from tabserve.registry.registry import Registry
from tests.conftest import ROOT, free_port, running_server, wait_until

FOLDER = ROOT / "deploy" / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RUNBOOK = (FOLDER / "runbook.md").read_text()
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "tabserve.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
COLUMNS_OF_DASHBOARDS = 24
_PLACE = {"type": "integer", "minimum": 0}
OF_DASHBOARDS = {  # what Grafana's schema of dashboards (kind "classic", schemaVersion 39) demands of what ours has
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "time", "templating", "annotations"],
    "properties": {
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "schemaVersion": {"type": "integer", "minimum": 36},
        "refresh": {"type": "string", "pattern": "^[0-9]+[smhd]$"},
        "panels": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "type", "title", "gridPos"],
                "properties": {
                    "id": {"type": "integer", "minimum": 1},
                    "type": {"enum": ["row", "stat", "timeseries", "heatmap"]},
                    "gridPos": {
                        "type": "object",
                        "required": ["h", "w", "x", "y"],
                        "properties": dict.fromkeys("hwxy", _PLACE),
                        "additionalProperties": False,
                    },
                },
                "if": {"properties": {"type": {"const": "row"}}},
                "then": {"required": ["collapsed", "panels"]},
                "else": {
                    "required": ["datasource", "description", "fieldConfig", "options", "targets"],
                    "properties": {
                        "fieldConfig": {"type": "object", "required": ["defaults", "overrides"]},
                        "targets": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "object", "required": ["refId", "expr", "datasource"]},
                        },
                    },
                },
            },
        },
    },
}
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


def test_prometheus_accepts_the_rules_and_its_own_settings(tmp_path: Path) -> None:
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


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    jsonschema.validate(DASHBOARD, OF_DASHBOARDS, jsonschema.Draft202012Validator)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < COLUMNS_OF_DASHBOARDS
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"] == panel["datasource"]


def test_each_query_of_the_dashboard_is_read_by_prometheus(tmp_path: Path) -> None:
    rules = [{"record": f"query:{at}", "expr": in_service(query)} for at, query in enumerate(QUERIES)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(QUERIES)} rules found" in promtool("check", "rules", str(tmp_path / "queries.yaml"))
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": [BROKEN]}]}))
    with pytest.raises(AssertionError):
        promtool("check", "rules", str(tmp_path / "queries.yaml"))


BROKEN = {"record": "query:0", "expr": "rate(tabserve_requests_total)"}  # of no span of time


def in_service(query: str) -> str:
    """A query as Grafana sends it."""
    return query.replace("$__rate_interval", "1m")


def mounted(service: str) -> dict[str, Path]:
    """What compose mounts from here into a container, by where it is there."""
    volumes = [volume.split(":") for volume in COMPOSE["services"][service]["volumes"] if volume.startswith("./")]
    return {there: ROOT / here for here, there, mode in volumes if mode == "ro"}


def test_compose_starts_prometheus_with_the_settings_and_rules_that_are_tested() -> None:
    files = mounted("prometheus")
    (config,) = [
        word.partition("=")[2] for word in COMPOSE["services"]["prometheus"]["command"] if "config.file" in word
    ]
    assert files[config] == FOLDER / "prometheus.yml"
    settings = yaml.safe_load(files[config].read_text())
    assert [files[rules] for rules in settings["rule_files"]] == [FOLDER / "rules.yaml"]
    (scrape,) = settings["scrape_configs"]
    (target,) = scrape["dns_sd_configs"]
    assert {*target["names"]} <= COMPOSE["services"].keys()


def test_grafana_finds_prometheus_and_the_dashboard_where_compose_has_them() -> None:
    files = mounted("grafana")
    provisioned = files["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text())["datasources"]
    address = urlsplit(source["url"])
    assert address.hostname in COMPOSE["services"]
    assert (address.scheme, address.port) == ("http", 9090), "where Prometheus listens unless told otherwise"
    assert "--web.listen-address" not in " ".join(COMPOSE["services"]["prometheus"]["command"])
    assert source["type"] == "prometheus"
    assert source["access"] == "proxy", "browsers do not reach Prometheus"
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "tabserve.yaml").read_text())["providers"]
    assert [path.name for path in files[provider["options"]["path"]].iterdir()] == ["tabserve.json"]
    home = Path(COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (files[str(home.parent)] / home.name).is_file()


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


@pytest.mark.slow
def test_a_real_prometheus_reads_a_real_service_by_the_dashboards_queries(
    trained: Registry, record: dict[str, Any], tmp_path: Path
) -> None:
    if not shutil.which("prometheus"):
        pytest.skip("Prometheus is not installed: Debian has it in its package prometheus")
    metrics, port = free_port(), free_port()
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", "METRICS": f":{metrics}"}
    with running_server(tmp_path / "log.txt", environment) as server, prometheus(tmp_path, metrics, port) as ask:
        for body in [json.dumps(record).encode(), b"{}"] * 10:
            request = Request(f"{server.url}/output/credit", body, {"Content-Type": "application/json"})
            with suppress(HTTPError):  # the half of them is not valid
                urlopen(request, timeout=30).close()
        wait_until(lambda: value(ask("sum(tabserve_faults_total)")) > 0, 60, "faults are seen")
        assert value(ask('tabserve_requests_total{route="/output/<model_id>",method="POST",status="200"}')) == 10
        assert value(ask('tabserve_requests_total{route="/output/<model_id>",method="POST",status="422"}')) == 10
        assert value(ask("sum(tabserve_rows_total)")) == 10
        assert value(ask("tabserve_model_loaded")) == 1
        for query in QUERIES:
            ask(in_service(query))
        wait_until(lambda: ask("tabserve:slow:ratio_rate5m") != [], 60, "the rules are computed")
        wait_until(lambda: {rule["health"] for rule in ask.rules()} == {"ok"}, 60, "all rules are fine")


class Ask:
    """Asks a Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def __call__(self, query: str) -> list[Any]:
        found: list[Any] = self._get(f"/query?{urlencode({'query': query})}")["result"]
        return found

    def rules(self) -> list[Any]:
        return [rule for group in self._get("/rules")["groups"] for rule in group["rules"]]

    def is_there(self) -> bool:
        try:
            return bool(self("vector(1)"))
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urlopen(f"{self._url}{path}", timeout=30) as answer:
            content = json.load(answer)
        assert content["status"] == "success", content
        return content["data"]


def value(result: list[Any]) -> float:
    """The value of a query's only series; 0 without one."""
    return float(result[0]["value"][1]) if result else 0.0


@contextmanager
def prometheus(folder: Path, target: int, port: int) -> Iterator[Ask]:
    """A Prometheus with compose's settings, less its target: it watches a port of this machine, and every second."""
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    settings["global"] = dict.fromkeys(settings["global"], "1s")
    settings["rule_files"] = [str(mounted("prometheus")[rules]) for rules in settings["rule_files"]]
    (scrape,) = settings["scrape_configs"]
    del scrape["dns_sd_configs"]
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "prometheus.txt").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options], cwd=folder, stdout=log, stderr=log)
    try:
        ask = Ask(port)
        wait_until(ask.is_there, 60, "Prometheus answers")
        yield ask
    finally:
        process.terminate()
        process.wait(30)
