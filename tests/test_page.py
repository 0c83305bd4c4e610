"""`/`: what is served, for any use case."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from tabserve.api.app import create_app
from tabserve.api.page import FILES, MOST_MODELS
from tabserve.columns.features import Category, Number
from tabserve.declaration.discovery import all_use_cases
from tabserve.declaration.use_case import UseCase
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.artifacts import NEW, copy_of, edit_manifest

MOST_BYTES = 100_000  # of all that the first paint needs
VOID = {"meta", "link", "img", "input"}


class Element:
    """An HTML element: its tag, attributes, own text, and what it is in."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: "Element | None") -> None:
        self.tag = tag
        self.attributes = attributes
        self.parent = parent
        self.text = ""


class Parser(HTMLParser):
    """Collects the elements of a page, in their order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), "an attribute is given twice"
        element = Element(tag, attributes, self.open[-1] if self.open else None)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1].text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    def by_id(self, identifier: str) -> Element:
        (element,) = [one for one in self.elements if one.attributes.get("id") == identifier]
        return element

    def inside(self, parent: Element, *tags: str) -> list[Element]:
        return [element for element in self.all(*tags) if parent in ancestors(element)]

    def options(self, select: Element) -> list[Element]:
        return self.inside(select, "option")


def ancestors(element: Element) -> list[Element]:
    return [element.parent, *ancestors(element.parent)] if element.parent else []


@pytest.fixture
def html(client: FlaskClient) -> Parser:
    return Parser(client.get("/").text)


def shown_with(monkeypatch: pytest.MonkeyPatch, app: APIFlask, **changes: Any) -> str:
    """The page when the models were trained for something else."""
    bikes = app.extensions["predictor"].answering()["bikes"].declared
    declared = replace(bikes, derived=(), **changes)
    monkeypatch.setattr(Artifact, "declared", property(lambda artifact: declared))
    return app.test_client().get("/").text


# how it is served


def test_it_may_load_nothing_from_elsewhere_and_run_nothing_inline(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"unsafe|http|\*", policy)
    assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert re.findall(r"<script(?![^>]* src=)|<style|style=|\son[a-z]+=|javascript:", answer.text) == []


def test_it_names_only_files_that_are_served_beside_it(client: FlaskClient, html: Parser) -> None:
    named = {one.attributes.get("src") or one.attributes["href"] for one in html.all("script", "link", "img")}
    assert named == set(FILES)
    for name in named:
        with client.get(f"/{name}") as answer:
            assert answer.status_code == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-cache"
        with client.get(f"/{name}", headers={"If-None-Match": answer.headers["ETag"]}) as again:
            assert again.status_code == 304


@pytest.mark.parametrize("path", ["/page.html", "/docs.js", "/static/page.js", "/..%2fpage.py", "/favicon.ico"])
def test_no_other_file_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_its_links_are_relative(html: Parser) -> None:
    links = [one.attributes["href"] for one in html.all("a")]
    assert links
    assert not [link for link in links if link.startswith("/") or "//" in link]


def test_head_is_answered_like_get_without_a_body(client: FlaskClient) -> None:
    answer = client.head("/")
    assert (answer.status_code, answer.data) == (200, b"")


def test_it_is_no_part_of_the_contract(client: FlaskClient) -> None:
    assert "/" not in client.get("/openapi.json").get_json()["paths"]


def test_the_first_paint_needs_little(registry: Registry, client: FlaskClient) -> None:
    for _ in range(MOST_MODELS + 2):
        copy_of(registry)
    total = len(client.get("/").data)
    for name in FILES:
        with client.get(f"/{name}") as answer:
            total += len(answer.data)
    assert total < MOST_BYTES


def test_it_loads_a_model_once_at_most_and_needs_no_user(trained: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app(Settings(model_registry=trained.location, auth_required=True)).test_client()
    answer = client.get("/")
    assert answer.status_code == 200
    assert 'data-login="true"' in answer.text

    def load(self: Registry, model_id: str) -> None:
        raise AssertionError

    monkeypatch.setattr(Registry, "load", load)
    assert client.get("/").text == answer.text


def test_it_says_when_no_login_is_needed(html: Parser) -> None:
    (body,) = html.all("body")
    assert body.attributes["data-login"] == "false"


def test_it_says_which_files_are_jobs(trained: Registry) -> None:
    settings = Settings(model_registry=trained.location, auth_required=False, sync_rows=70, max_rows=50)
    (body,) = Parser(create_app(settings).test_client().get("/").text).all("body")
    assert body.attributes["data-rows-at-once"] == "50"


# what every page should have


def test_the_basics(html: Parser) -> None:
    assert html.all("html")[0].attributes["lang"] == "en"
    assert html.all("title")[0].text == "Tabserve"
    metas = {one.attributes.get("name"): one.attributes.get("content") for one in html.all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == "light dark"
    assert len(html.all("main")) == len(html.all("h1")) == 1
    levels = [int(one.tag[1]) for one in html.all("h1", "h2", "h3", "h4")]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_control_has_a_label_and_descriptions_that_exist(html: Parser) -> None:
    identifiers = [one.attributes["id"] for one in html.elements if "id" in one.attributes]
    assert len(identifiers) == len(set(identifiers))
    labelled = {one.attributes["for"] for one in html.all("label") if one.text.strip()}
    controls = html.all("input", "select", "textarea")
    assert {one.attributes["id"] for one in controls} == labelled
    for element in html.elements:
        for name in ("aria-describedby", "aria-labelledby"):
            assert set(element.attributes.get(name, "").split()) <= set(identifiers)


def test_the_focus_goes_through_the_page_in_its_order(html: Parser) -> None:
    assert {one.attributes["tabindex"] for one in html.elements if "tabindex" in one.attributes} <= {"0", "-1"}
    assert html.all("a")[0].attributes["href"] == f"#{html.all('main')[0].attributes['id']}"


# forms


@pytest.mark.parametrize("use_case", all_use_cases().values(), ids=lambda use_case: use_case.name)
def test_the_form_is_made_from_the_declaration(html: Parser, use_case: UseCase) -> None:
    filled = {}
    for feature in use_case.features:
        control = html.by_id(f"{use_case.name}-field-{feature.name}")
        attributes = control.attributes
        assert attributes["name"] == feature.name
        assert ("required" in attributes) == (not feature.optional)
        help_id, error_id = attributes["aria-describedby"].split()
        assert html.by_id(help_id).text == feature.description
        assert html.by_id(error_id).text == ""
        if isinstance(feature, Category):
            options = html.options(control)
            assert [option.text for option in options if option.attributes.get("value") != ""] == list(feature.values)
            (filled[feature.name],) = [option.text for option in options if "selected" in option.attributes]
        else:
            assert isinstance(feature, Number)
            assert attributes["type"] == "number"
            assert attributes["step"] == "1"
            assert (float(attributes["min"]), float(attributes["max"])) == (feature.low, feature.high)
            if "value" in attributes:
                filled[feature.name] = int(attributes["value"])
    assert filled == use_case.example


def test_a_feature_that_may_be_missing_can_be_left_empty(app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    features = (
        Category(name="sky", description="Colour", values=("blue", "grey"), missing=True),
        Category(name="moon", description="Phase", values=("new", "full"), default="new"),
        Number(name="wind", description="In m/s", low=0.5, high=99.5, default=1.5),
    )
    html = Parser(shown_with(monkeypatch, app, features=features, example={}))
    sky, moon, wind = (html.by_id(f"bikes-field-{name}") for name in ("sky", "moon", "wind"))
    texts = [[option.text for option in html.options(select)] for select in (sky, moon)]
    assert texts == [["not given", "blue", "grey"], ["not given: new", "new", "full"]]
    assert {"min": "0.5", "max": "99.5", "step": "any", "placeholder": "1.5"}.items() <= wind.attributes.items()
    assert not [one for one in (sky, moon, wind) if "required" in one.attributes]


def test_a_declaration_is_text_and_never_markup(app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "<script>alert('1')</script> & \"it's\""
    features = (Category(name="sky", label=text, description=text, values=(text,)),)
    changes: dict[str, Any] = {"title": text, "description": text, "features": features, "example": {"sky": text}}
    html = Parser(shown_with(monkeypatch, app, **changes))
    assert len(html.all("script")) == 1
    assert [option.text for option in html.options(html.by_id("bikes-field-sky"))] == [text]
    assert html.by_id("bikes-field-sky-help").text == html.all("h2")[0].text == text


def test_decisions_have_the_words_of_the_declaration(html: Parser) -> None:
    shown = {
        one.attributes["data-name"]: json.loads(one.attributes["data-outcomes"])
        for one in html.elements
        if one.attributes.get("class") == "use-case"
    }
    assert shown == {"credit": ["Expected to repay", "Expected to default"], "bikes": []}


def test_the_default_use_case_comes_first(registry: Registry) -> None:
    for default in all_use_cases():
        settings = Settings(model_registry=registry.location, default_use_case=default)
        html = Parser(create_app(settings).test_client().get("/").text)
        shown = [one for one in html.elements if one.attributes.get("class") == "use-case"]
        assert (
            shown[0].attributes["data-name"] == html.options(html.by_id("use-case"))[0].attributes["value"] == default
        )
        assert ["hidden" in one.attributes for one in shown] == [False, True]


# models


def card_of(text: str, model_id: str) -> str:
    """The part of the page that describes a model."""
    (card,) = [part for part in re.findall(r"<li>.*?</li>", text, re.DOTALL) if f">{model_id}<" in part]
    return card


def test_models_are_shown_with_their_metrics_and_a_link_to_the_report(registry: Registry, client: FlaskClient) -> None:
    text = client.get("/").text
    for model_id in registry.list():
        manifest = registry.manifest(model_id)
        headline = manifest.headline
        low, high = manifest.intervals[headline]
        card = card_of(text, model_id)
        assert f'<span class="figure">{manifest.metrics["hold_out"][headline]:.3f}</span>' in card
        assert f"{low:.3f} to {high:.3f}" in card
        assert f'href="models/{model_id}/report"' in card
        for name, value in manifest.metrics["hold_out"].items():
            assert f"<dt>{name.replace('_', ' ')}</dt><dd>{value:.3f}</dd>" in card


def test_the_champion_is_marked_and_comes_first(registry: Registry, client: FlaskClient) -> None:
    old = registry.latest("credit")
    newer = copy_of(registry)
    for champion in (newer, old):  # without a promotion, the newest
        if champion == old:
            registry.histories.promote(old, reason="a test")
        text = client.get("/").text
        assert [one for one in (old, newer) if 'class="badge"' in card_of(text, one)] == [champion]
        html = Parser(text)
        first, second = html.options(html.by_id("credit-model"))
        assert first.attributes["value"] == "credit"
        assert "selected" in first.attributes
        assert {second.attributes["value"], champion} == {old, newer}


def test_only_the_newest_models_are_shown_and_the_champion(registry: Registry, client: FlaskClient) -> None:
    champion = registry.latest("credit")
    registry.histories.promote(champion, reason="a test")
    newest = [copy_of(registry) for _ in range(MOST_MODELS + 1)]
    html = Parser(client.get("/").text)
    shown = [option.attributes["value"] for option in html.options(html.by_id("credit-model"))]
    assert shown == ["credit", *reversed(newest[1:])]


def test_a_use_case_whose_models_are_all_refused_says_so_and_the_others_have_forms(
    registry: Registry, client: FlaskClient
) -> None:
    broken = registry.latest("credit")
    edit_manifest(registry, broken, protocol=0)
    answer = client.get("/")
    html = Parser(answer.text)
    assert f"{broken} is refused" in answer.text
    assert "tabserve train credit" in answer.text
    models = [one.attributes["id"] for one in html.all("select") if one.attributes.get("class") == "model"]
    assert models == ["bikes-model"]


def test_a_page_without_any_model_says_what_to_do(tmp_path: Path) -> None:
    client = create_app(Settings(model_registry=tmp_path / "none", auth_required=False)).test_client()
    text = client.get("/").text
    assert "There is no model yet" in text
    assert "tabserve train NAME" in text
    assert not Parser(text).all("fieldset")


def test_models_that_come_and_go_are_followed(
    registry: Registry, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabserve.resolver.RECHECK_AFTER", 0)
    copy_of(registry, f"weather-lightgbm_v1.0.0-{NEW}", use_case="weather")
    for names in (["credit", "bikes", "weather"], ["credit", "bikes"]):
        html = Parser(client.get("/").text)
        assert [option.attributes["value"] for option in html.options(html.by_id("use-case"))] == names
        if registry.list("weather"):
            registry.delete(registry.latest("weather"))


def test_a_model_that_is_refused_is_named_and_the_others_are_shown(registry: Registry, client: FlaskClient) -> None:
    good = registry.latest("credit")
    broken = copy_of(registry)
    edit_manifest(registry, broken, protocol=0)
    text = client.get("/").text
    assert f"{broken} is refused" in text
    assert 'class="badge"' in card_of(text, good)


def test_a_champion_that_cannot_be_read_is_said(registry: Registry, client: FlaskClient) -> None:
    registry.histories.promote(registry.latest("credit"), reason="a test")
    (registry.location / "credit.history").write_text("nonsense")
    assert "The champion of credit is refused" in client.get("/").text
