"""`tabserve models`."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tabserve.cli.commands import tabserve
from tabserve.decisions.entry import Entry
from tabserve.decisions.ids import new_id
from tabserve.decisions.store import DecisionStore
from tabserve.registry.registry import Registry
from tests.artifacts import change_byte, copy_of, edit_manifest

UNKNOWN = "credit-lightgbm_v1.0.0-1.000000"


@pytest.fixture
def registry(trained: Registry, tmp_path: Path) -> Registry:
    """A registry with one model, which a test may change."""
    model_id = trained.latest("credit")
    shutil.copytree(trained.location / model_id, tmp_path / "models" / model_id)
    return Registry(tmp_path / "models")


@pytest.fixture
def model_id(registry: Registry) -> str:
    return registry.latest("credit")


@pytest.fixture
def run(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the changeable registry; it succeeds or fails in an expected way."""
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))

    def run(*arguments: str, answer: str | None = None) -> Result:
        result = CliRunner().invoke(tabserve, ["models", *arguments], input=answer)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert str(registry.location) not in result.output or arguments[0] == "show"
        return result

    return run


def listed(text: str) -> list[list[str]]:
    """The table's lines below its heading, split into words."""
    heading, *lines = text.splitlines()
    assert heading.split() == ["use", "case", "model_id", "trained", "(UTC)", "hold-out", "verdict"]
    return [line.split() for line in lines]


def test_list_prints_the_models_newest_first_with_date_metric_and_champion(run, registry, model_id):
    new = copy_of(registry)
    registry.histories.promote(model_id)
    result = run("list")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, third = listed(result.stdout)
    created = registry.manifest(model_id).created
    score = f"{registry.manifest(model_id).headline_of('hold_out'):.3f}"
    assert first[:2] == ["credit", new]
    assert first[-3:] == ["roc_auc", score, "passed"]
    assert second == ["credit", model_id, created[:10], created[11:16], "roc_auc", score, "passed", "champion"]
    assert third == ["bikes", "no", "model", "yet"]


def test_list_prints_one_use_cases_models(run, registry, model_id):
    other = copy_of(registry, "bikes-lightgbm_v1.0.0-1.000000", use_case="bikes")
    assert [words[1] for words in listed(run("list").stdout)] == [model_id, other]
    assert [words[1] for words in listed(run("list", "--use-case", "credit").stdout)] == [model_id]
    assert run("list", "--use-case", "typo").exit_code == 2


def test_list_says_of_a_model_that_is_refused_why(run, registry, model_id):
    broken = copy_of(registry)
    change_byte(registry.location / broken / "manifest.json")
    (line, *_) = run("list").stdout.splitlines()[1:]
    assert f"{broken}  refused: its manifest" in line
    assert json.loads(run("list", "--json").stdout)[0]["refused"].startswith("its manifest")


def test_list_is_json_for_programs(run, registry, model_id):
    registry.histories.promote(model_id)
    (row,) = json.loads(run("list", "--json").stdout)
    manifest = registry.manifest(model_id)
    assert row == {
        **{name: getattr(manifest, name) for name in ("use_case", "model_id", "algorithm", "version", "created")},
        "is_champion": True,
        "metric": "roc_auc",
        "hold_out": manifest.metrics["hold_out"]["roc_auc"],
        "verdict": "passed",
    }


def test_list_says_which_champion_is_refused_and_prints_what_could_be_promoted(run, registry, model_id):
    (registry.location / "credit.champion").write_text("")
    result = run("list")
    assert result.exit_code == 0
    assert model_id in result.stdout
    assert "promote a model again" in result.stderr


def test_a_signed_registry_is_promoted_in_and_copied(run, registry, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_SIGNING_KEY", "key")
    signed = Registry(registry.location, "key")
    champion, newest = copy_of(signed), copy_of(signed)
    signed.delete(registry.list()[-1])
    (registry.location / "credit.champion").write_text(champion)  # as a command without the key writes it
    refused = run("copy", str(tmp_path / "other"))
    assert refused.exit_code == 1
    assert "it is not signed with this service's key; promote a model again" in refused.stderr
    asked = run("promote", champion)
    assert (asked.exit_code, asked.stderr.endswith("say by --reason why it may answer.\n")) == (1, True)
    assert run("promote", champion, "--reason", "a command without the key was used").exit_code == 0
    assert run("copy", str(tmp_path / "other")).exit_code == 0
    monkeypatch.delenv("MODEL_SIGNING_KEY")
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "other"))
    assert run("copy", str(tmp_path / "third")).exit_code == 0  # by a command without the key, as in an image build
    third = Registry(tmp_path / "third", "key")
    assert (third.histories.champion("credit"), third.list()) == (champion, [newest, champion])
    third.verify(champion)


@pytest.mark.parametrize(("option", "copied"), [([], True), (["--hold-out=true"], True), (["--hold-out=false"], False)])
@pytest.mark.parametrize("by_name", [True, False])
def test_copy_takes_the_hold_out_along_unless_told_otherwise(
    run, registry, model_id, tmp_path, option, copied, by_name
):
    result = run("copy", *option, str(tmp_path / "other"), *([model_id] if by_name else []))
    assert result.exit_code == 0
    assert (tmp_path / "other" / model_id / "test.parquet").exists() == copied
    assert run("copy", "--hold-out=perhaps", str(tmp_path / "third")).exit_code == 2


def test_copy_names_each_model_once(run, registry, model_id, tmp_path):
    registry.histories.promote(model_id)
    assert run("copy", str(tmp_path / "other")).stdout == f"{model_id} was copied.\n"


@pytest.mark.parametrize("refused", [True, False])
def test_copying_nothing_is_one_line_and_exit_status_1(run, registry, model_id, tmp_path, monkeypatch, refused):
    if refused:
        edit_manifest(registry, model_id, protocol=1)
    else:
        monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "none yet"))
    result = CliRunner().invoke(tabserve, ["models", "copy", str(tmp_path / "other")])
    assert (result.exit_code, result.stdout) == (1, "")
    *reasons, line = result.stderr.splitlines()
    assert re.fullmatch("Error: No model in .* can be copied[.]", line)
    assert ["train it again" in reason for reason in reasons] == [True] * refused
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("there", [True, False])
def test_of_a_registry_without_models_list_and_verify_say_so(run, monkeypatch, tmp_path, there):
    place = tmp_path / "none yet"
    if there:
        (place / "something else").mkdir(parents=True)
    monkeypatch.setenv("MODEL_REGISTRY", str(place))
    listed, verified = run("list"), run("verify")
    assert (listed.exit_code, listed.stderr) == (0, f"There are no models in {place}.\n")
    assert listed.stdout.splitlines()[1:] == ["bikes     no model yet", "credit    no model yet"]
    assert json.loads(run("list", "--json").stdout) == []
    assert (verified.exit_code, verified.stdout) == (1, "")
    assert f"There are no models in {place}." in verified.stderr


def test_a_champion_that_is_gone_is_said_by_list_and_verify(run, registry, model_id):
    champion = copy_of(registry)
    registry.histories.promote(champion)
    shutil.rmtree(registry.location / champion)
    listed, verified = run("list"), run("verify")
    assert listed.exit_code == 0
    assert model_id in listed.stdout
    assert (verified.exit_code, verified.stdout) == (1, f"{model_id} is whole.\n")
    for result in (listed, verified):
        assert f"champion of credit cannot answer: {champion} does not exist; promote a model again." in result.stderr
    assert "1 model(s) refused." in verified.stderr
    assert run("verify", model_id).exit_code == 0


def test_a_champion_that_is_refused_is_said_by_list_and_verify(run, registry, model_id):
    registry.histories.promote(model_id)
    change_byte(registry.location / model_id / "model.pkl")
    listed, verified = run("list"), run("verify")
    assert listed.exit_code == 0
    assert listed.stdout.splitlines()[1].endswith("  champion")
    for result in (listed, verified):
        assert f"The champion of credit cannot answer: {model_id} is refused: its file model.pkl" in result.stderr
    assert (verified.exit_code, verified.stdout) == (1, "")
    assert "1 model(s) refused." in verified.stderr


def test_verify_refuses_a_champion_that_cannot_be_read(run, registry, model_id):
    (registry.location / "credit.champion").write_text("")
    result = run("verify")
    assert (result.exit_code, result.stdout) == (1, f"{model_id} is whole.\n")
    assert "its name cannot be read" in result.stderr


@pytest.mark.parametrize("name", ["manifest.json", "model.pkl", "report.html", "test.parquet"])
@pytest.mark.parametrize("harm", [change_byte, Path.unlink])
def test_a_damaged_copy_is_copied_again(run, registry, model_id, tmp_path, name, harm):
    registry.histories.promote(model_id)
    other = Registry(tmp_path / "other")
    assert run("copy", str(other.location)).exit_code == 0
    assert f"{model_id} is there already." in run("copy", str(other.location)).stdout
    harm(other.location / model_id / name)
    assert f"{model_id} was copied." in run("copy", str(other.location)).stdout
    other.verify(model_id)
    assert (other.location / model_id / name).read_bytes() == (registry.location / model_id / name).read_bytes()


def test_a_hold_out_that_shall_not_be_there_is_deleted(run, registry, model_id, tmp_path):
    other = tmp_path / "other"
    run("copy", str(other), model_id)
    result = run("copy", "--hold-out=false", str(other), model_id)
    assert not (other / model_id / "test.parquet").exists()
    assert result.stdout == (
        f"{model_id}: the earlier copy of its hold-out, test.parquet, was deleted.\n{model_id} is there already.\n"
    )
    assert (registry.location / model_id / "test.parquet").exists()
    assert "deleted" not in run("copy", "--hold-out=false", str(other), model_id).stdout


def test_show_is_the_manifest_for_programs(run, registry, model_id):
    result = run("show", "--json", model_id)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {**registry.manifest(model_id).to_json(), "verdict": "passed"}


def test_show_says_what_a_model_is_and_where_its_report_is(run, registry, model_id):
    registry.histories.promote(model_id)
    result = run("show", model_id)
    assert result.exit_code == 0
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line)
    assert Path(facts["report"]).is_file()
    manifest = registry.manifest(model_id)
    low, high = manifest.intervals["roc_auc"]
    score = manifest.metrics["hold_out"]["roc_auc"]
    assert facts["hold-out"] == f"roc_auc {score:.3f}, 95 % interval {low:.3f} to {high:.3f}"
    assert facts["threshold"] == f"{manifest.threshold:.3f}, by cost"
    assert (facts["champion"], facts["algorithm"]) == ("yes", "lightgbm")
    assert facts["brier"].split()[-1] == f"{manifest.metrics['hold_out']['brier']:.3f}"


def test_a_regression_is_shown_without_a_threshold(run, registry, trained):
    model_id = trained.latest("bikes")
    shutil.copytree(trained.location / model_id, registry.location / model_id)
    result = run("show", model_id)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "threshold" not in result.stdout
    assert "\nr2 " in result.stdout


def test_a_champion_that_is_refused_is_no_reason_not_to_show_a_model(run, registry, model_id):
    (registry.location / "credit.champion").write_text("")
    result = run("show", model_id)
    assert result.exit_code == 0
    assert "\nchampion " not in result.stdout


def test_promote_makes_a_champion(run, registry, model_id):
    copy_of(registry)
    result = run("promote", model_id)
    assert result.exit_code == 0
    assert model_id in result.stdout
    assert registry.histories.champion("credit") == model_id


def test_a_broken_model_is_not_promoted(run, registry, model_id):
    change_byte(registry.location / model_id / "model.pkl")
    result = run("promote", model_id)
    assert result.exit_code == 1
    assert "model.pkl is not the one that training wrote" in result.stderr
    assert registry.histories.champion("credit") is None


def test_rollback_goes_back_to_the_champion_before(run, registry, model_id):
    new = copy_of(registry)
    assert run("promote", model_id).exit_code == 0
    assert run("promote", new).exit_code == 0
    result = run("rollback", "credit")
    assert (result.exit_code, result.stdout) == (0, f"{model_id} is the champion again.\n")
    assert registry.histories.champion("credit") == model_id


def test_without_an_earlier_champion_rollback_is_one_line_and_exit_status_1(run, registry, model_id):
    for champion in (None, model_id):
        assert registry.histories.champion("credit") == champion
        result = run("rollback", "credit")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "Error: There is no earlier champion of credit to go back to; promote a model instead.\n"
        )
        registry.histories.promote(model_id)
    assert run("rollback", "typo").exit_code == 2


def test_verify_is_json_for_programs(run, registry, model_id):
    broken = copy_of(registry)
    change_byte(registry.location / broken / "model.pkl")
    result = run("verify", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["whole"] == [model_id]
    assert found["refused"][broken].endswith("model.pkl is not the one that training wrote.")


def test_verify_checks_all_models_and_says_so(run, registry, model_id):
    new = copy_of(registry)
    result = run("verify")
    assert result.exit_code == 0
    assert result.stdout == f"{new} is whole.\n{model_id} is whole.\n"


def test_verify_names_the_refused_ones_with_reasons_and_exits_with_1(run, registry, model_id):
    changed, foreign = copy_of(registry), copy_of(registry)
    change_byte(registry.location / changed / "test.parquet")
    edit_manifest(registry, foreign, libraries={"scikit-learn": "0.1", "lightgbm": "0.1"})
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout == f"{model_id} is whole.\n"
    assert f"{changed} is refused: its file test.parquet is not the one that training wrote." in result.stderr
    assert f"{foreign} is refused: it was written with" in result.stderr
    assert "2 model(s) refused" in result.stderr


def test_verify_takes_a_model_without_its_hold_out_for_whole(run, registry, model_id):
    (registry.location / model_id / "test.parquet").unlink()
    (registry.location / model_id / "train.parquet").unlink()
    assert run("verify").stdout == f"{model_id} is whole.\n"


def test_verify_checks_only_the_named_models(run, registry, model_id):
    broken = copy_of(registry)
    change_byte(registry.location / broken / "model.pkl")
    assert run("verify", model_id).exit_code == 0
    assert run("verify", broken).exit_code == 1
    assert run("verify", model_id, UNKNOWN).exit_code == 1


def test_verify_refuses_unsigned_models_where_a_key_is_set(run, model_id, monkeypatch):
    monkeypatch.setenv("MODEL_SIGNING_KEY", "key")
    result = run("verify")
    assert result.exit_code == 1
    assert "not signed with this service's key" in result.stderr


def test_delete_asks_before_it_deletes(run, registry, model_id):
    assert run("delete", model_id, answer="n\n").exit_code == 1
    assert registry.list() == [model_id]
    assert run("delete", model_id, answer="y\n").exit_code == 0
    assert registry.list() == []


def test_delete_deletes_without_asking_when_told_so(run, registry, model_id):
    new = copy_of(registry)
    result = run("delete", "--yes", new)
    assert result.exit_code == 0
    assert new in result.stdout
    assert registry.list() == [model_id]
    assert not (registry.location / new).exists()


@pytest.mark.parametrize("name", [UNKNOWN, "../models", "/etc/passwd", "credit", ""])
@pytest.mark.parametrize("command", [("show",), ("promote",), ("verify",), ("delete", "--yes")])
def test_an_unknown_model_is_one_line_and_exit_status_1(run, registry, model_id, command, name):
    result = run(*command, name)
    assert result.exit_code == 1
    assert "There is no model of that name" in result.stderr
    assert registry.list() == [model_id]


def test_a_setting_that_cannot_be_used_is_one_line_and_exit_status_1(run, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", "")
    result = run("list")
    assert result.exit_code == 1
    assert "MODEL_REGISTRY" in result.stderr


def test_missing_names_the_use_cases_without_a_model(run, registry):
    assert run("missing").stdout.split() == ["bikes"]
    assert json.loads(run("missing", "--json").stdout) == ["bikes"]
    registry.delete(registry.latest("credit"))
    assert run("missing").stdout.split() == ["bikes", "credit"]


def test_a_use_case_whose_models_are_all_refused_is_missing(run, registry, model_id):
    copy_of(registry)
    for each in registry.list("credit"):
        assert "credit" not in run("missing").stdout.split()
        change_byte(registry.location / each / "model.pkl")
    result = run("missing")
    assert result.stdout.split() == ["bikes", "credit"]
    assert result.stderr.count("its file model.pkl is not the one that training wrote") == 2


def test_history_shows_who_what_and_why(run, registry, model_id):
    new = copy_of(registry)
    assert run("promote", model_id, "--by", "ann", "--reason", "it is the first").exit_code == 0
    assert run("promote", new, "--by", "bob").exit_code == 0
    assert run("rollback", "credit", "--by", "cat", "--reason", "too slow").exit_code == 0
    lines = run("history", "credit").stdout.splitlines()
    assert [line.split()[2:5] for line in lines[1:3]] == [["ann", "promote", model_id], ["bob", "promote", new]]
    assert lines[3].endswith("too slow")
    assert lines[4] == f"champion: {model_id}"
    told = json.loads(run("history", "credit", "--json").stdout)
    assert told["champion"] == model_id
    assert [change["action"] for change in told["changes"]] == ["promote", "promote", "rollback"]
    history = registry.location / "credit.history"
    history.write_text(history.read_text().replace("it is the first", "it is the best"))
    refused = run("history", "credit")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "change 2 of its history does not follow the one before" in refused.stderr


def test_who_promotes_is_the_systems_user_unless_told(run, registry, model_id, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "dora")
    assert run("promote", model_id).exit_code == 0
    assert registry.histories.of("credit").changes[0].by == "dora"
    for option in ("--by", "--reason"):
        assert run("promote", model_id, option, "two\nlines").exit_code == 2
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("uid")))
    nobody = run("promote", model_id)
    assert (nobody.exit_code, "Say who you are" in nobody.stderr) == (2, True)


def test_with_approvals_2_another_person_approves(run, registry, model_id, monkeypatch):
    monkeypatch.setenv("APPROVALS", "2")
    proposed = run("promote", model_id, "--by", "ann")
    assert proposed.stdout == (f"Proposed by ann. Another person approves it: tabserve models approve {model_id}\n")
    assert f"proposed: {model_id}, by ann" in run("history", "credit").stdout
    refused = run("approve", model_id, "--by", "ann")
    assert (refused.exit_code, "another person must approve it" in refused.stderr) == (1, True)
    assert run("withdraw", model_id, "--by", "bob").stdout == f"{model_id} is no longer proposed.\n"
    assert run("promote", model_id, "--by", "ann").exit_code == 0
    assert run("approve", model_id, "--by", "bob").stdout == f"{model_id} is now the champion.\n"
    assert registry.histories.champion("credit") == model_id


def test_sign_signs_again_with_the_newest_key(run, registry, monkeypatch):
    old = Registry(registry.location, "old")
    model_id = copy_of(old)
    old.histories.promote(model_id)
    assert "set MODEL_SIGNING_KEY" in run("sign").stderr
    monkeypatch.setenv("MODEL_SIGNING_KEY", "new,old")
    signed = run("sign")
    assert signed.exit_code == 1  # the others were never signed
    assert {f"{model_id} is signed.", "credit is signed."} <= set(signed.stdout.splitlines())
    assert Registry(registry.location, "new").histories.champion("credit") == model_id
    unsigned = registry.latest("bikes") if registry.list("bikes") else registry.list("credit")[-1]
    assert f"{unsigned} is refused: its manifest is not signed" in signed.stderr
    assert run("sign", unsigned).exit_code == 0
    Registry(registry.location, "new").load(unsigned)


def test_split_divides_the_records_until_it_is_off(run, registry, model_id):
    new = copy_of(registry)
    registry.histories.promote(model_id)
    assert run("split", "credit").stdout == "The records of credit are not divided.\n"
    assert run("split", "credit", f"{model_id}=90", f"{new}=10", "--by", "ann").exit_code == 0
    assert run("split", "credit").stdout == f"{model_id}=90 {new}=10\n"
    assert "split 90/10" in run("history", "credit").stdout
    for arguments in ((f"{model_id}=90",), ("A=90", "B=10"), (f"{model_id}=90", "--off")):
        assert run("split", "credit", *arguments).exit_code in (1, 2)
    assert run("split", "credit", "--off").stdout == "The champion answers every record again.\n"
    assert registry.histories.of("credit").state.split is None


def test_a_model_that_decided_records_in_the_log_is_kept(run, registry, model_id, tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path / 'decisions.db'}"
    store = DecisionStore(address)
    head = {"time": 1.0, "use_case": "credit", "digest": "", "route": ""}
    store.add([Entry(id=new_id(), model_id=model_id, **head), Entry(id=new_id(), model_id="another", **head)])
    monkeypatch.setenv("DECISION_LOG", address)
    refused = run("delete", "--yes", model_id)
    assert refused.exit_code == 1
    assert f"{model_id} decided 1 record(s) in the log" in refused.stderr
    assert registry.list("credit") == [model_id]
    new = copy_of(registry)
    assert run("delete", "--yes", new).exit_code == 0
    monkeypatch.delenv("DECISION_LOG")
    assert run("delete", "--yes", model_id).exit_code == 0
