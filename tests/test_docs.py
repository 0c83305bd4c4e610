"""The documents' examples, run."""

import csv
import json
import random
import re
import shlex
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import src.use_cases
from api.app import create_app
from api.commands import models
from api.config import Settings
from src.registry import Registry
from src.train_pipeline import Plan, main, run_training
from tests.conftest import ROOT, Server

README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readmes_curl_gets_an_answer_like_the_one_shown(server: Server) -> None:
    (command,) = [block for block in blocks("sh") if block.startswith("curl")]
    (shown,) = map(json.loads, blocks("json"))
    curl, silent, url, header, content_type, data, body = shlex.split(command)
    assert (curl, silent, header, data) == ("curl", "-s", "-H", "-d")
    request = Request(url.replace("http://localhost:8080", server.url), body.encode(), dict([content_type.split(": ")]))
    with urlopen(request, timeout=30) as response:
        answer = json.load(response)
    # the digits are those of the default training, which is too long for a test: here the model had two trials
    assert {key: type(value) for key, value in answer.items()} == {key: type(value) for key, value in shown.items()}
    assert answer["result"] == shown["result"]


def test_the_readmes_use_case_trains_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = blocks("python")
    (tmp_path / "churn.py").write_text(source)
    monkeypatch.setattr(src.use_cases, "__path__", [*src.use_cases.__path__, str(tmp_path)])
    src.use_cases.all_use_cases.cache_clear()
    try:
        use_case = src.use_cases.get_use_case("churn")
        generator = random.Random(7)
        with (tmp_path / "churn.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["tariff", "region", "months", "minutes", "left"])
            for _ in range(400):
                months = generator.randint(0, 60)
                minutes = generator.choice(["", round(generator.uniform(0, 900), 1)])
                left = "yes" if generator.random() < 0.8 - months / 80 else "no"
                writer.writerow(
                    [
                        generator.choice(("basic", "plus", "pro")),
                        generator.choice(("north", "west")),
                        months,
                        minutes,
                        left,
                    ]
                )
        registry = Registry(tmp_path / "models")
        run_training(use_case, registry, tmp_path / "churn.csv", Plan(trials=1))
        client = create_app(Settings(model_registry=registry.folder)).test_client()
        response = client.post("/output/churn", json=dict(use_case.example))
        assert response.status_code == 200
        assert response.json["result"] in ([0], [1])
        assert client.post("/output/churn", json={**use_case.example, "minutes": None}).status_code == 200
        assert client.post("/output/churn", json={**use_case.example, "months": None}).status_code == 422
        assert "ChurnRecord" in client.get("/openapi.json").json["components"]["schemas"]
    finally:
        src.use_cases.all_use_cases.cache_clear()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_targets_commands_and_files_that_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", text, re.MULTILINE))
    assert {target for pair in named for target in pair if target} <= targets
    assert set(re.findall(r"flask models ([a-z]+)", text)) <= set(models.commands)
    options = {option for parameter in main.params for option in parameter.opts}
    assert {
        option for line in re.findall(r"src\.train_pipeline (.*)", text) for option in re.findall(r"--[a-z-]+", line)
    } <= {
        *options,
        "--help",
    }
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
