"""Stores: a folder and a bucket with the same operations, and a registry in a bucket when the network fails."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tabserve import resolver
from tabserve.api.app import create_app
from tabserve.cli.commands import tabserve
from tabserve.errors import BrokenArtifactError, NoModelError, StoreAwayError, UnknownModelError
from tabserve.registry import stores
from tabserve.registry.manifest import REPORT
from tabserve.registry.registry import MODEL, PIPELINE, TEST_TABLE, TRAIN_TABLE, Registry
from tabserve.registry.stores import MANIFEST, BucketStore, CachedStore, FolderStore, Store, open_store, parse_location
from tabserve.settings import Settings
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tests.artifacts import change_byte, copy_of
from tests.buckets import S3, Proxy
from tests.conftest import running_server, wait_until


@pytest.fixture(scope="module")
def s3():
    with S3() as running:
        yield running


@pytest.fixture
def bucket(s3) -> str:
    return s3.bucket()


@pytest.fixture
def proxy(s3, monkeypatch) -> Proxy:
    """The proxy in front of the bucket, with the environment of this process set to it."""
    proxy = s3.proxy()
    for name, value in s3.environment(proxy).items():
        monkeypatch.setenv(name, value)
    return proxy


@pytest.fixture
def location(bucket, proxy) -> str:
    return f"s3://{bucket}/some/models"


@pytest.fixture
def remote(location, tmp_path) -> Registry:
    """A registry in an empty bucket."""
    return Registry(location, cache=tmp_path / "cache")


@pytest.fixture
def published(registry, remote) -> Registry:
    """A registry in a bucket with the newest model of each use case."""
    for use_case in ("credit", "bikes"):
        registry.copy(registry.latest(use_case), remote)
    return remote


@pytest.fixture
def no_retries(monkeypatch) -> None:
    """Failed requests are not retried, because the pause before a retry takes up to a second."""
    monkeypatch.setitem(stores.TIMEOUTS, "retries", {"total_max_attempts": 1})
    monkeypatch.setattr(stores, "ATTEMPTS", 1)


@pytest.fixture
def impatient(monkeypatch, no_retries) -> None:
    """A bucket is listed five times a second, and a reader waits for each listing."""
    monkeypatch.setattr(stores, "RELIST_AFTER", 0.2)
    monkeypatch.setattr(stores, "PATIENCE", 30)
    monkeypatch.setattr(resolver, "RECHECK_AFTER", 0)


def fresh(registry: Registry, tmp_path: Path) -> Registry:
    """The same registry as another machine sees it."""
    return Registry(registry.location, cache=tmp_path / "another cache")


def kept(registry: Registry, tmp_path: Path) -> Path:
    """The folder in which `remote` keeps what it read."""
    return tmp_path / "cache" / f"s3+{registry.location.removeprefix('s3://').replace('/', '+')}"


def objects(s3: S3, registry: Registry) -> list[str]:
    bucket = registry.location.removeprefix("s3://").partition("/")[0]
    return [entry["Key"] for entry in s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


def publish_all_but_the_manifest(model_id: str, registry: Registry, to: Registry, monkeypatch) -> None:
    """Publish a model, but die before its manifest is written."""
    write = BucketStore.replace

    def killed(self: BucketStore, path: str, content: bytes) -> None:
        if path.endswith(MANIFEST):
            raise KeyboardInterrupt
        write(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(BucketStore, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.copy(model_id, to)


def make_unreadable(end: str, reason: str, monkeypatch) -> None:
    """Make the bucket refuse objects whose path ends like this."""
    read = BucketStore.read

    def refuse(self: BucketStore, path: str, digest: str | None = None) -> bytes:
        if path.endswith(end):
            raise StoreAwayError(reason)
        return read(self, path, digest)

    monkeypatch.setattr(BucketStore, "read", refuse)


def garble(end: str, content: bytes, monkeypatch) -> None:
    """Make the bucket return other content for objects whose path ends like this."""
    read = BucketStore.read

    def other(self: BucketStore, path: str, digest: str | None = None) -> bytes:
        return content if path.endswith(end) else read(self, path, digest)

    monkeypatch.setattr(BucketStore, "read", other)


# the operations


@pytest.fixture(params=[FolderStore, BucketStore, CachedStore])
def store(request, tmp_path) -> Store:
    if request.param is FolderStore:
        return open_store(tmp_path / "store", tmp_path)
    location = request.getfixturevalue("location")
    return BucketStore(location) if request.param is BucketStore else open_store(location, tmp_path)


def test_a_store_is_empty_at_first(store):
    assert not store.paths()
    assert not store.exists("a/b")
    with pytest.raises(FileNotFoundError):
        store.read("a/b")


def test_what_is_written_is_there(store):
    store.create("a/b", b"one")
    store.replace("c", b"two")
    assert set(store.paths()) == {"a/b", "c"}
    assert store.exists("a/b")
    assert not store.exists("a")
    assert (store.read("a/b"), store.read("c")) == (b"one", b"two")
    assert 0 <= store.age("c") < 60


def test_what_is_created_must_be_new_and_what_is_replaced_need_not(store):
    store.create("a/b", b"one")
    with pytest.raises(FileExistsError):
        store.create("a/b", b"two")
    assert store.read("a/b") == b"one"
    store.replace("a/b", b"three")
    assert store.read("a/b") == b"three"


def test_what_somebody_wrote_meanwhile_is_not_replaced(store):
    store.swap("c", b"one", None)
    before = store.version("c")
    with pytest.raises(FileExistsError):
        store.swap("c", b"two", None)
    store.swap("c", b"three, and longer", before)
    assert store.read("c") == b"three, and longer"
    with pytest.raises(FileExistsError):
        store.swap("c", b"four", before)
    now = store.version("c")
    store.delete("c")
    with pytest.raises(FileExistsError):
        store.swap("c", b"five", now)
    assert not store.exists("c")


def test_what_is_deleted_is_gone(store):
    store.create("a/b", b"one")
    store.create("a/c", b"two")
    store.delete("a/b")
    assert set(store.paths()) == {"a/c"}
    with pytest.raises(FileNotFoundError):
        store.read("a/b")


@pytest.mark.parametrize("write", [FolderStore.create, FolderStore.replace])
@pytest.mark.parametrize("path", ["credit.history", "a folder/a file"])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, write, path):
    def is_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", is_full)
    with pytest.raises(OSError, match="No space left"):
        write(FolderStore(tmp_path), path, b"content")
    assert not [found for found in tmp_path.rglob("*") if found.is_file()]


def test_a_file_that_was_there_outlives_a_failed_creation_and_a_failed_renaming(tmp_path):
    store = FolderStore(tmp_path)
    store.create("file", b"content")
    with pytest.raises(FileExistsError):
        store.create("file", b"other")
    assert store.read("file") == b"content"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        store.replace("folder", b"content")
    assert store.paths() == {"file": None}


def test_objects_outside_the_prefix_or_with_names_that_mean_something_else_on_a_disk_are_not_seen(s3, bucket, location):
    odd = ("", "2/x", "/../x", "/a b", "/a//b", "/a/.", "/.")
    for key in ("x", "some/models/a/b", *(f"some/models{end}" for end in odd)):
        s3.client().put_object(Bucket=bucket, Key=key, Body=b"")
    assert set(BucketStore(location).paths()) == {"a/b"}


def test_a_bucket_need_not_have_a_prefix(bucket, proxy):
    store = BucketStore(f"s3://{bucket}")
    store.create("a/b", b"one")
    assert set(store.paths()) == {"a/b"}
    assert store.read("a/b") == b"one"


@pytest.mark.parametrize("text", ["s3://bucket", "s3://my.bucket-1/a", "s3://bucket/a/b_c/d.e", "s3://bucket/a/"])
def test_the_place_of_a_bucket(text):
    assert parse_location(text) == text.rstrip("/")


@given(st.text(alphabet="ab./:_-%? é", max_size=12))
def test_a_place_in_a_bucket_is_refused_or_safe_to_be_a_folder_of_the_cache(rest):
    try:
        location = parse_location(f"s3://{rest}")
    except ValueError:
        return
    cache = Path("/cache")
    assert (cache / location.removeprefix("s3://")).resolve().is_relative_to(cache / location[5:].split("/")[0])


def test_nothing_of_s3_is_imported_for_a_folder(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from tabserve.api.app import create_app; from tabserve.settings import Settings\n"
        f"settings = Settings(model_registry=Path({str(tmp_path)!r}), auth_required=False)\n"
        "create_app(settings).test_client().get('/ready')\n"
        "assert not {'s3fs', 'fsspec', 'botocore'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_the_error_says_what_to_install(location, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StoreAwayError, match=r"pip install 'tabserve\[s3\]'"):
        BucketStore(location).paths()


# publishing


def test_a_published_model_is_the_one_that_was_saved_without_its_training_rows(
    s3, registry, published, record, tmp_path
):
    model_id = registry.latest("credit")
    assert published.list("credit") == [model_id]
    names = {key.rpartition("/")[2] for key in objects(s3, published) if model_id in key}
    assert names == {PIPELINE, MODEL, MANIFEST, REPORT, TEST_TABLE}
    ours, theirs = registry.load(model_id), fresh(published, tmp_path).load(model_id)
    assert theirs.manifest == ours.manifest
    X = ours.pipeline.transform([record])
    assert theirs.model.predict(theirs.pipeline.transform([record])) == ours.model.predict(X)


@pytest.mark.slow
def test_training_publishes_to_the_bucket_and_keeps_everything_on_this_machine(fast, remote, s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (outcome,) = run_training(fast, remote, fast.path, Plan(trials=1)).outcomes
    model_id = outcome.model_id
    assert outcome.published
    assert remote.list() == [model_id]
    assert not [key for key in objects(s3, remote) if key.endswith(TRAIN_TABLE)]
    assert (tmp_path / "models" / model_id / TRAIN_TABLE).is_file()
    (second,) = run_training(fast, remote, fast.path, Plan(trials=1, seed=44)).manifests
    assert second.champion.model_id == model_id  # it was compared with the model that answers from the bucket
    assert remote.latest("credit") == second.model_id


def test_a_training_whose_bucket_went_away_loses_nothing(fast, remote, proxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert remote.list() == []
    plan = Plan(trials=1, progress=lambda *_: proxy.fail("refuse"))
    result = run_training(fast, remote, fast.path, plan)
    (model_id,) = Registry(Path("models")).list()
    assert [(outcome.model_id, outcome.published) for outcome in result.saved] == [(model_id, False)]
    command = f"MODEL_REGISTRY=models tabserve models copy {remote.location} {model_id}"
    (problem,) = result.problems
    assert problem.endswith(command)
    proxy.mode = "pass"
    monkeypatch.setenv("MODEL_REGISTRY", "models")
    assert CliRunner().invoke(tabserve, command.split()[2:]).output == f"{model_id} was copied.\n"
    assert fresh(remote, tmp_path).list() == [model_id]


def test_a_training_that_cannot_reach_its_bucket_says_so_before_it_tunes(credit, remote, proxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    proxy.fail("refuse")
    trained = []
    with pytest.raises(StoreAwayError):
        run_training(credit, remote, credit.path, Plan(trials=1, progress=lambda *_: trained.append(1)))
    assert not trained


def test_the_manifest_is_written_last(s3, registry, remote, tmp_path, monkeypatch):
    model_id = registry.latest("credit")
    write = BucketStore.replace
    moments = []

    def watch(self: BucketStore, path: str, content: bytes) -> None:
        moments.append((path, fresh_list()))
        write(self, path, content)

    def fresh_list() -> list[str]:
        return Registry(remote.location, cache=tmp_path / str(len(moments))).list()

    monkeypatch.setattr(BucketStore, "replace", watch)
    registry.copy(model_id, remote)
    assert moments[-1] == (f"{model_id}/{MANIFEST}", [])
    assert len(moments) == 5
    assert fresh_list() == [model_id]


def test_a_publication_that_was_killed_is_no_model_and_is_taken_up_again(registry, remote, monkeypatch):
    model_id = registry.latest("credit")
    publish_all_but_the_manifest(model_id, registry, remote, monkeypatch)
    assert remote.list() == []
    with pytest.raises(UnknownModelError):
        remote.load(model_id)
    assert registry.copy(model_id, remote)
    remote.load(model_id)


def test_what_killed_publications_left_long_ago_is_swept_away(s3, registry, remote, monkeypatch):
    model_id, other = registry.latest("credit"), registry.latest("bikes")
    bucket, _, prefix = remote.location.removeprefix("s3://").partition("/")
    s3.client().put_object(Bucket=bucket, Key=f"{prefix}/{other}/{MODEL}", Body=b"")
    registry.copy(model_id, remote)
    assert f"{prefix}/{other}/{MODEL}" in objects(s3, remote)  # another upload that may have just begun
    monkeypatch.setattr("tabserve.registry.registry.ABANDONED_AFTER", -1)
    remote.delete(model_id)
    registry.copy(model_id, remote)
    assert not [key for key in objects(s3, remote) if other in key]
    remote.load(model_id)


def test_two_publishers_at_once_publish_both_their_models(registry, remote, tmp_path):
    first, second = registry.latest("credit"), copy_of(registry)
    registries = [Registry(remote.location, cache=tmp_path / name) for name in "ab"]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(registry.copy, (first, second), registries)) == [True, True]
    for one in (*registries, remote):
        assert one.list("credit") == [second, first]
        assert {one.load(model_id).model_id for model_id in (first, second)} == {first, second}


def test_two_publishers_of_the_same_model_at_once_leave_it_whole(registry, remote, tmp_path):
    model_id = registry.latest("credit")
    registries = [Registry(remote.location, cache=tmp_path / name) for name in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(registry.copy, [model_id] * 4, registries))
    assert remote.list() == [model_id]
    remote.load(model_id)


def test_of_two_who_save_different_models_under_one_name_one_is_refused(registry, remote, tmp_path):
    source = registry.latest("credit")
    manifest = registry.manifest(source)
    files = {name: registry.read(source, name, manifest) for name in manifest.files}
    others = {**files, TEST_TABLE: b"other\n"}
    gate = threading.Barrier(2)

    def save(name: str, content: dict[str, bytes]) -> str:
        registry = Registry(remote.location, cache=tmp_path / name)
        gate.wait()
        try:
            return registry.save(content, manifest)
        except FileExistsError:
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(save, "ab", (files, others)))
    assert outcomes == [source, "refused"]
    remote.load(source)


def test_champions_and_deletion(published, registry, tmp_path):
    old, new = registry.latest("credit"), copy_of(registry)
    registry.copy(new, published)
    published.histories.promote(old)
    elsewhere = fresh(published, tmp_path)
    assert (elsewhere.histories.champion("credit"), elsewhere.latest("credit")) == (old, new)
    elsewhere.load(old)
    elsewhere.delete(old)
    assert (elsewhere.histories.champion("credit"), elsewhere.list("credit")) == (None, [new])
    with pytest.raises(UnknownModelError):
        elsewhere.histories.promote(old)


# copying by the command


def test_the_command_copies_what_answers(registry, remote, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    monkeypatch.setenv("MODEL_CACHE", str(registry.location.parent / "cache"))
    champion, newer, newest = registry.latest("credit"), copy_of(registry), copy_of(registry)
    change_byte(registry.location / newest / MODEL)
    registry.histories.promote(champion)
    answer = CliRunner().invoke(tabserve, ["models", "copy", remote.location])
    assert answer.exit_code == 0, answer.output
    assert "its file model.pkl is not the one that training wrote" in answer.output
    assert remote.list("credit") == [newer, champion]  # the newest that can be loaded, and the champion
    assert remote.histories.champion("credit") == champion
    assert remote.list("bikes") == registry.list("bikes")  # one of each algorithm
    again = CliRunner().invoke(tabserve, ["models", "copy", remote.location, newer])
    assert again.output == f"{newer} is there already.\n"


def test_models_come_back_from_the_bucket_to_a_folder(published, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", published.location)
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    assert CliRunner().invoke(tabserve, ["models", "copy", str(tmp_path / "here")]).exit_code == 0
    assert Registry(tmp_path / "here").list() == published.list()
    assert not list((tmp_path / "here").glob(f"*/{TRAIN_TABLE}"))


def test_a_model_that_is_not_as_its_manifest_says_is_not_copied(registry, remote):
    model_id = registry.latest("credit")
    change_byte(registry.location / model_id / REPORT)
    with pytest.raises(BrokenArtifactError, match="report"):
        registry.copy(model_id, remote)
    assert remote.list() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["copy", "gs://bucket"], "It must be a path to a folder, or s3://bucket/prefix."),
        (["copy", "here", "credit-lightgbm_v1.0.0-1.000000"], "There is no model of that name"),
        (["copy", "s3://no-such-bucket-here/x"], "cannot be reached: NoSuchBucket."),
        (["copy", "/dev/null/x"], "Not a directory"),
        (["copy", "/proc/x"], "/proc/x"),
    ],
)
def test_copying_says_what_is_wrong(registry, proxy, monkeypatch, arguments, said):
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    monkeypatch.setenv("MODEL_CACHE", str(registry.location.parent / "cache"))
    answer = CliRunner().invoke(tabserve, ["models", *arguments])
    assert answer.exit_code != 0
    assert said in " ".join(answer.output.split())


# failing networks


def test_a_download_that_is_cut_short_is_refused_and_made_again(published, proxy, tmp_path):
    model_id = published.latest("credit")
    elsewhere = fresh(published, tmp_path)
    assert elsewhere.list("credit") == [model_id]
    proxy.fail("cut")
    with pytest.raises(StoreAwayError):
        elsewhere.load(model_id)
    proxy.fail("pass")
    again = fresh(published, tmp_path)  # with the other one's copies
    assert again.load(model_id).model_id == model_id


def test_a_changed_object_is_refused_until_it_is_whole_again(s3, published, tmp_path):
    model_id = published.latest("credit")
    bucket, _, prefix = published.location.removeprefix("s3://").partition("/")
    key = f"{prefix}/{model_id}/{MODEL}"
    whole = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.client().put_object(Bucket=bucket, Key=key, Body=whole[:-1] + b"x")
    elsewhere = fresh(published, tmp_path)
    for _ in range(2):
        with pytest.raises(BrokenArtifactError, match="not the one that training wrote"):
            elsewhere.load(model_id)
    s3.client().put_object(Bucket=bucket, Key=key, Body=whole)
    fresh(published, tmp_path).load(model_id)


def test_files_are_kept_by_their_digest_and_read_from_there(published, proxy, tmp_path):
    model_id = published.latest("credit")
    published.load(model_id)
    manifest = published.manifest(model_id)
    folder = kept(published, tmp_path) / model_id
    served = {manifest.files[name] for name in (PIPELINE, MODEL)}
    assert served == {path.name for path in folder.iterdir()} & set(manifest.files.values())
    proxy.fail("cut")  # no file is read again
    Registry(published.location, cache=tmp_path / "cache").load(model_id)


def test_a_kept_file_that_was_changed_is_read_again(published, tmp_path):
    model_id = published.latest("credit")
    published.load(model_id)
    digest = published.manifest(model_id).files[MODEL]
    change_byte(kept(published, tmp_path) / model_id / digest)
    Registry(published.location, cache=tmp_path / "cache").load(model_id)


def test_what_was_deleted_in_the_bucket_is_not_kept(s3, published, tmp_path):
    model_id = published.latest("credit")
    published.load(model_id)
    fresh(published, tmp_path).delete(model_id)
    again = Registry(published.location, cache=tmp_path / "cache")
    assert again.list("credit") == []
    assert not (kept(published, tmp_path) / model_id).exists()
    with pytest.raises(NoModelError):
        again.latest("credit")


@pytest.mark.parametrize("name", ["manifest", "champion"])
def test_what_is_kept_without_a_digest_and_was_damaged_is_read_again(published, tmp_path, name):
    model_id = published.latest("credit")
    published.histories.promote(model_id)
    published.load(model_id)
    for path in kept(published, tmp_path).glob(f"{model_id}/*"):
        path.write_bytes(path.read_bytes()[:100])
    again = Registry(published.location, cache=tmp_path / "cache")
    assert again.histories.champion("credit") == model_id
    assert again.load(model_id).model_id == model_id


def test_a_champion_that_is_promoted_again_answers_again(published, registry, tmp_path):
    first, second = registry.latest("credit"), copy_of(registry)
    registry.copy(second, published)
    cache = tmp_path / "served"
    for model_id in (first, second, first):
        time.sleep(1)  # S3's timestamps are whole seconds
        published.histories.promote(model_id)
        assert Registry(published.location, cache=cache).histories.champion("credit") == model_id


def test_a_champion_is_known_as_soon_as_it_is_listed(published, proxy, tmp_path):
    model_id = published.latest("credit")
    published.histories.promote(model_id)
    Registry(published.location, cache=tmp_path / "served").list()
    proxy.fail("refuse")
    assert Registry(published.location, cache=tmp_path / "served").histories.champion("credit") == model_id


def test_what_names_no_champion_is_not_read_with_the_listing(s3, bucket, published, registry, tmp_path, monkeypatch):
    s3.client().put_object(Bucket=bucket, Key="some/models/users.txt", Body=b"alice:secret")
    make_unreadable("users.txt", "AccessDenied", monkeypatch)
    assert fresh(published, tmp_path).latest("credit") == registry.latest("credit")


def test_an_object_that_cannot_be_read_takes_no_other_away(published, registry, tmp_path, monkeypatch):
    old, new = registry.latest("credit"), copy_of(registry)
    registry.copy(new, published)
    make_unreadable(f"{new}/{MODEL}", "AccessDenied", monkeypatch)
    settings = Settings(model_registry=published.location, model_cache=tmp_path / "served", auth_required=False)
    ready = create_app(settings).test_client().get("/ready").json
    assert (ready["models"]["credit"], ready["registry"]) == (old, "ok")


def test_copying_stops_at_a_model_that_cannot_be_read(published, tmp_path, monkeypatch):
    make_unreadable(MODEL, "ClientPayloadError", monkeypatch)
    monkeypatch.setenv("MODEL_REGISTRY", published.location)
    for command in (["copy", str(tmp_path / "here")], ["missing"]):
        answer = CliRunner().invoke(tabserve, ["models", *command])
        assert answer.exit_code == 1
        assert "cannot be reached: ClientPayloadError" in answer.output


def test_training_does_not_pass_over_a_champion_that_cannot_be_read(credit, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_unreadable(MODEL, "ClientPayloadError", monkeypatch)
    with pytest.raises(StoreAwayError, match="ClientPayloadError"):
        run_training(credit, published, credit.path, Plan(trials=1))


def test_a_cache_deletes_nothing_that_it_did_not_write(s3, bucket, proxy, registry, tmp_path):
    registry.location.rename(tmp_path / bucket)  # somebody's folder, named like the bucket
    local = Registry(tmp_path / bucket)
    cached = Registry(f"s3://{bucket}", cache=tmp_path)
    local.copy(local.latest("credit"), cached)
    (tmp_path / f"s3+{bucket}" / "notes").mkdir(parents=True, exist_ok=True)
    (tmp_path / f"s3+{bucket}" / "notes" / "mine.txt").touch()
    before = sorted((tmp_path / bucket).rglob("*"))
    assert cached.list() == [local.latest("credit")]
    cached.load(local.latest("credit"))
    assert sorted((tmp_path / bucket).rglob("*")) == before
    assert (tmp_path / f"s3+{bucket}" / "notes" / "mine.txt").exists()


@pytest.mark.parametrize("name", [MANIFEST, "credit.history"])
def test_an_object_that_is_far_too_large_is_refused_by_itself(s3, published, tmp_path, name):
    credit, bikes = published.latest("credit"), published.latest("bikes")
    bucket, _, prefix = published.location.removeprefix("s3://").partition("/")
    path = f"{credit}/{name}" if name == MANIFEST else name
    published.histories.promote(credit)
    whole = s3.client().get_object(Bucket=bucket, Key=f"{prefix}/{path}")["Body"].read()
    s3.client().put_object(Bucket=bucket, Key=f"{prefix}/{path}", Body=whole + b"\n" * 5_000_001)
    other = fresh(published, tmp_path)
    assert other.load(bikes).model_id == bikes
    with pytest.raises(BrokenArtifactError, match="cannot be read"):
        other.load(credit) if name == MANIFEST else other.histories.champion("credit")
    assert other.away is None


def test_what_a_killed_process_left_in_the_cache_is_swept_away(published, tmp_path):
    model_id = published.latest("credit")
    published.load(model_id)
    old, new = (kept(published, tmp_path) / model_id / f".{'0' * 64}.{process}.1" for process in (1, 2))
    for path, age in ((old, 3700), (new, 0)):
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    published.histories.promote(model_id)
    published.list()
    assert (old.exists(), new.exists()) == (False, True)


def test_commands_look_at_the_bucket_and_not_at_what_was_kept(s3, published, tmp_path, monkeypatch):
    model_id = published.latest("credit")
    published.load(model_id)
    monkeypatch.setenv("MODEL_REGISTRY", published.location)
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    bucket, _, prefix = published.location.removeprefix("s3://").partition("/")
    s3.client().put_object(Bucket=bucket, Key=f"{prefix}/{model_id}/{MODEL}", Body=b"damaged")
    answer = CliRunner().invoke(tabserve, ["models", "verify", model_id])
    assert answer.exit_code == 1
    assert "its file model.pkl is not the one that training wrote" in answer.output


def test_a_publisher_with_an_old_listing_deletes_nothing_of_others(registry, remote, tmp_path, monkeypatch):
    mine, other = registry.latest("credit"), registry.latest("bikes")
    publish_all_but_the_manifest(other, registry, remote, monkeypatch)
    publisher = fresh(remote, tmp_path)
    assert publisher.list() == []  # it has seen the other's files, but no manifest
    registry.copy(other, remote)  # now the manifest comes
    monkeypatch.setattr("tabserve.registry.registry.ABANDONED_AFTER", -1)
    monkeypatch.setattr(stores, "PATIENCE", 0)
    registry.copy(mine, publisher)
    fresh(remote, tmp_path).load(other)


def test_a_bucket_does_not_forget_the_copies_of_another_below_it(bucket, proxy, registry, tmp_path):
    outer, inner = (Registry(f"s3://{bucket}{prefix}", cache=tmp_path / "cache") for prefix in ("", "/inner"))
    registry.copy(registry.latest("credit"), inner)
    registry.copy(registry.latest("bikes"), outer)
    inner.list()
    outer.list()
    proxy.fail("refuse")
    assert Registry(inner.location, cache=tmp_path / "cache").list() == registry.list("credit")


def test_a_cache_that_cannot_be_written_stops_nobody(published, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    registry = Registry(published.location, cache=tmp_path / "file")
    registry.load(registry.latest("credit"))
    assert "set MODEL_CACHE" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_while_the_store_is_away_what_was_read_before_answers_and_ready_says_so(published, registry, proxy, tmp_path):
    settings = Settings(model_registry=published.location, model_cache=tmp_path / "cache", auth_required=False)
    client = create_app(settings).test_client()
    before = client.get("/ready").json
    assert before["registry"] == "ok"
    assert client.get("/models/credit/report").status_code == 200
    proxy.fail("refuse")
    time.sleep(stores.RELIST_AFTER)
    assert client.get("/ready").json == {**before, "registry": "away"}
    assert client.get("/models").json["models"] == published_ids(before)
    assert client.get("/").status_code == 200
    started_now = create_app(settings).test_client()
    assert started_now.get("/ready").json == {**before, "registry": "away"}
    assert started_now.get("/models/credit/report").status_code == 200
    assert started_now.post("/outputs/credit").status_code == 503  # its hold-out was never requested
    proxy.fail("pass")
    new = copy_of(registry)
    registry.copy(new, fresh(published, tmp_path))
    time.sleep(stores.RELIST_AFTER)
    for one in (client, started_now):
        after = one.get("/ready").json
        assert (after["registry"], after["models"]["credit"]) == ("ok", new)


def published_ids(ready: dict) -> list[str]:
    return sorted(ready["models"].values(), key=lambda model_id: model_id.rpartition("-")[2], reverse=True)


@pytest.mark.usefixtures("impatient")
def test_a_model_that_was_never_read_does_not_answer_while_the_store_is_away(published, registry, proxy, tmp_path):
    settings = Settings(model_registry=published.location, model_cache=tmp_path / "cache", auth_required=False)
    client = create_app(settings).test_client()
    old = client.get("/ready").json["models"]["credit"]
    new = copy_of(registry)
    registry.copy(new, fresh(published, tmp_path))
    time.sleep(stores.RELIST_AFTER)
    assert client.get("/models").json["models"][0] == new  # listed, but never read
    proxy.fail("refuse")
    time.sleep(stores.RELIST_AFTER)
    assert client.get("/ready").json["models"]["credit"] == old
    assert client.get(f"/models/{new}").status_code == 503
    assert create_app(settings).test_client().get("/ready").json["models"]["credit"] == old


def test_a_service_without_store_and_cache_is_not_ready_and_says_why(location, proxy, tmp_path):
    proxy.fail("refuse")
    settings = Settings(model_registry=location, model_cache=tmp_path / "cache", auth_required=False)
    answer = create_app(settings).test_client().get("/ready")
    assert answer.status_code == 503
    reason = answer.json["detail"]
    assert reason.startswith("The model registry cannot be reached: ")
    assert "127.0.0.1" not in reason
    assert create_app(settings).test_client().get("/").status_code == 200


def test_nobody_waits_for_a_store_that_hangs(published, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "RELIST_AFTER", 0)
    registry = Registry(published.location, cache=tmp_path / "cache")
    listed = registry.list()
    registry.load(registry.latest("bikes"))
    proxy.fail("hang")
    finished: list[list[str]] = []
    reader = threading.Thread(target=lambda: finished.append(registry.list()), daemon=True)
    reader.start()
    reader.join(stores.TIMEOUTS["read_timeout"] - 1)  # a listing would take at least a second longer
    assert finished == [listed]
    monkeypatch.setattr(stores, "FIRST_PATIENCE", 2)
    began = time.monotonic()
    registry.load(registry.latest("bikes"))  # not one file of it is read from the bucket
    assert Registry(published.location, cache=tmp_path / "cache").list() == listed  # a process that starts now
    # a listing takes 10 s to fail, and there would be one for each file
    assert time.monotonic() - began < 2 * stores.TIMEOUTS["read_timeout"]
    proxy.fail("pass")


def http(body: bytes, length: int | None = None) -> bytes:
    """A server's answer."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {length or len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def xml(inner: str, name: str = "<Name>b</Name>") -> bytes:
    return f'<?xml version="1.0"?><ListBucketResult>{name}{inner}</ListBucketResult>'.encode()


ONE = "<Contents><Key>some/models/x</Key>{}</Contents>"
LISTINGS = {
    "empty": http(xml("<KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>")),
    "empty, and nothing said of it": http(xml("")),
    "of other things": http(
        xml(ONE.format('<ETag>"1"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified>') + "<KeyCount>1</KeyCount>")
    ),
    "no bytes": http(b""),
    "a page for people": http(b"<html><body>Please log in.</body></html>"),
    "a page that is no XML": http(b"<html><br><body>Please log in."),
    "JSON": http(b"{}"),
    "bytes": http(bytes(range(256)) * 9),
    "cut off in its XML": http(xml(ONE.format(""))[:-40]),
    "cut off by the network": http(xml("")[:-9], 5000),
    "to be continued, and not said how": http(xml("<IsTruncated>true</IsTruncated>")),
    "with fewer files than it says": http(xml("<KeyCount>7</KeyCount>")),
    "with files of which nothing is said": http(xml(ONE.format(""))),
    "dated in words": http(xml(ONE.format('<ETag>"1"</ETag><LastModified>today</LastModified>'))),
    "no HTTP": b"\0" * 500,
}


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_listing_that_has_lost_everything_or_is_none_takes_nothing_away(published, proxy, tmp_path, record):
    settings = Settings(model_registry=published.location, model_cache=tmp_path / "cache", auth_required=False)
    client = create_app(settings).test_client()
    before = client.get("/ready").json
    cached = sorted(kept(published, tmp_path).rglob("*"))
    for name, answer in LISTINGS.items():
        proxy.answer = answer
        proxy.fail("alter")
        time.sleep(stores.RELIST_AFTER)
        for one in (client, create_app(settings).test_client()):  # and a process that starts now
            assert one.get("/ready").json == {**before, "registry": "away"}, name
            assert one.post("/output/credit", json=record).json["model"] == before["models"]["credit"], name
            assert one.get("/models").json["models"] == published_ids(before), name
        assert sorted(kept(published, tmp_path).rglob("*")) == cached, name
        proxy.fail("pass")
        time.sleep(stores.RELIST_AFTER)
        assert client.get("/ready").json == before, name


def test_an_answer_that_is_no_listing_is_not_taken_for_an_empty_bucket(location, proxy, tmp_path):
    for listing in ("no bytes", "a page for people", "JSON"):
        proxy.answer = LISTINGS[listing]
        proxy.fail("alter")
        with pytest.raises(StoreAwayError):
            Registry(location, cache=tmp_path / listing).list()


@pytest.mark.usefixtures("impatient")
def test_what_is_deleted_by_the_command_is_gone_though_it_was_all(published, tmp_path, monkeypatch):
    settings = Settings(model_registry=published.location, model_cache=tmp_path / "served", auth_required=False)
    client = create_app(settings).test_client()
    monkeypatch.setenv("MODEL_REGISTRY", published.location)
    first, last = client.get("/models").json["models"]
    for model_id, status in ((first, 200), (last, 503)):
        assert client.get("/ready").status_code == 200
        assert CliRunner().invoke(tabserve, ["models", "delete", "--yes", model_id]).exit_code == 0
        time.sleep(stores.RELIST_AFTER)
        client.get("/models")
        assert client.get("/ready").status_code == status
    assert client.get("/models").json == {"models": []}
    assert not list(kept(published, tmp_path).glob("*/*"))


@pytest.mark.usefixtures("impatient")
def test_a_champion_that_is_withdrawn_gives_way_to_the_newest(published, registry, s3, tmp_path):
    old, new = registry.latest("credit"), copy_of(registry)
    registry.copy(new, published)
    published.histories.promote(old)
    settings = Settings(model_registry=published.location, model_cache=tmp_path / "served", auth_required=False)
    client = create_app(settings).test_client()
    assert client.get("/ready").json["models"]["credit"] == old
    bucket, _, prefix = published.location.removeprefix("s3://").partition("/")
    s3.client().delete_object(Bucket=bucket, Key=f"{prefix}/credit.history")
    time.sleep(stores.RELIST_AFTER)
    assert client.get("/ready").json["models"]["credit"] == new


def test_no_change_of_a_history_in_a_bucket_is_lost_when_many_come_at_once(published, registry, tmp_path):
    models = [copy_of(registry) for _ in range(4)]
    for model_id in models:
        registry.copy(model_id, published)

    def promote(place: int) -> None:
        fresh(published, tmp_path / str(place)).histories.promote(models[place], f"person {place}")

    with ThreadPoolExecutor(len(models)) as threads:
        list(threads.map(promote, range(len(models))))
    history = fresh(published, tmp_path / "last").histories.of("credit")
    assert sorted(change.model_id for change in history.changes) == sorted(models)
    assert history.state.champion == history.changes[-1].model_id


def test_a_listing_that_drips_is_given_up_and_made_again(published, proxy, tmp_path, monkeypatch, record):
    monkeypatch.setattr(stores, "RELIST_AFTER", 0.2)
    settings = Settings(model_registry=published.location, model_cache=tmp_path / "cache", auth_required=False)
    client = create_app(settings).test_client()
    before = client.get("/ready").json
    monkeypatch.setattr(stores, "LISTING_SECONDS", 1.0)  # only from now on: the first listing includes slow imports
    proxy.fail("drip")

    def state() -> str:
        assert client.post("/output/credit", json=record).status_code == 200
        return client.get("/ready").json["registry"]

    wait_until(lambda: state() == "away", 30, "it still waits for the listing")
    proxy.fail("pass")
    wait_until(lambda: state() == "ok", 30, "it was never listed again")
    assert client.get("/ready").json == before


def test_who_starts_while_the_bucket_drips_is_told_so_and_waits_once(published, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "RELIST_AFTER", 0)
    monkeypatch.setattr(stores, "FIRST_PATIENCE", 3)
    proxy.fail("drip")
    elsewhere = fresh(published, tmp_path)
    began = time.monotonic()
    for _ in range(10):
        with pytest.raises(StoreAwayError):
            elsewhere.list()
    assert time.monotonic() - began < 10 * stores.FIRST_PATIENCE


def test_a_file_that_drips_is_given_up_and_those_after_it_are_not_waited_for(
    published, proxy, tmp_path, monkeypatch, record
):
    monkeypatch.setattr(stores, "READ_SECONDS", 1.0)
    monkeypatch.setattr(stores, "SLOW", 0.5)
    elsewhere = fresh(published, tmp_path)
    listed = elsewhere.list()
    assert len(listed) == 2
    proxy.fail("drip")
    for model_id in listed:
        with pytest.raises(StoreAwayError, match="it does not answer in time"):
            elsewhere.load(model_id)
    assert elsewhere.away == "it does not answer in time"
    proxy.fail("pass")
    elsewhere._store.refresh()
    assert elsewhere.away is None
    assert [elsewhere.load(model_id).model_id for model_id in listed] == listed


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"{", b"\xff"])
def test_a_file_that_was_garbled_on_its_way_is_not_kept(published, tmp_path, monkeypatch, content):
    model_id = published.latest("credit")
    for name in (MANIFEST, PIPELINE, MODEL):
        elsewhere = Registry(published.location, cache=tmp_path / name)
        with monkeypatch.context() as patch:
            garble(name, content, patch)
            with pytest.raises(BrokenArtifactError):
                elsewhere.load(model_id)
        assert Registry(published.location, cache=tmp_path / name).load(model_id).model_id == model_id
        elsewhere._store.refresh()
        assert elsewhere.load(model_id).model_id == model_id


# failing folders


@pytest.fixture
def folder_client(registry, monkeypatch):
    """A service with its models in a folder, all of them loaded."""
    monkeypatch.setattr(resolver, "RECHECK_AFTER", 0)
    client = create_app(Settings(model_registry=registry.location, auth_required=False)).test_client()
    assert client.get("/ready").json["registry"] == "ok"
    return client


@contextmanager
def unreadable(folder: Path) -> Iterator[None]:
    """A folder that this process may not read. Root may read every folder, so it becomes another user meanwhile."""
    folder.chmod(0)
    if not os.geteuid():
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o755)


@contextmanager
def gone(folder: Path) -> Iterator[None]:
    folder.rename(f"{folder}.elsewhere")
    yield
    Path(f"{folder}.elsewhere").rename(folder)


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """What an unmounted folder looks like."""
    with gone(folder):
        folder.mkdir()
        yield
        folder.rmdir()


@contextmanager
def replaced_by_a_file(folder: Path) -> Iterator[None]:
    with gone(folder):
        folder.write_text("")
        yield
        folder.unlink()


@contextmanager
def with_other_things(folder: Path) -> Iterator[None]:
    with emptied(folder), pytest.MonkeyPatch.context() as patch:
        (folder / "lost+found").mkdir()
        listdir = os.listdir

        def refuse(path: Path | str) -> list[str]:
            if str(path).endswith("lost+found"):  # belongs to root
                raise PermissionError(13, "Permission denied")
            return listdir(path)

        patch.setattr(os, "listdir", refuse)
        (folder / "notes.txt").write_text("")
        yield
        (folder / "lost+found").rmdir()
        (folder / "notes.txt").unlink()


@pytest.mark.parametrize("state", [gone, emptied, replaced_by_a_file, with_other_things, unreadable])
@pytest.mark.parametrize("promoted", [False, True])
def test_a_folder_that_goes_away_takes_nothing_away(folder_client, registry, record, state, promoted, request):
    client = folder_client
    old, new = registry.latest("credit"), copy_of(registry)
    if promoted:
        registry.histories.promote(old)
    before = client.get("/ready").json
    listed = client.get("/models").json
    answering = old if promoted else new
    assert client.post(f"/output/{answering}", json=record).status_code == 200
    with state(registry.location):
        assert client.get("/ready").json == {**before, "registry": "away"}
        for name in ("credit", answering):
            assert client.post(f"/output/{name}", json=record).json["model"] == answering
        assert client.get("/models").json == listed
        assert client.get("/").status_code == 200
        assert client.get(f"/models/{answering}").status_code == 200
        refused = client.get(f"/models/{answering}/report")  # never requested before
        assert refused.status_code == 503
        assert refused.json["detail"].startswith("The model registry cannot be reached: ")
        assert str(registry.location) not in refused.text
        assert client.get("/models/credit-lightgbm_v1.0.0-1.000000").status_code == 404
    assert client.get("/ready").json == before
    newest = copy_of(registry)
    assert client.get(f"/models/{newest}").status_code == 200


def test_a_model_asked_for_by_its_name_alone_is_known_when_the_folder_is_gone(registry, record):
    client = create_app(Settings(model_registry=registry.location, auth_required=False)).test_client()
    model_id = registry.latest("credit")
    assert client.post(f"/output/{model_id}", json=record).status_code == 200
    with gone(registry.location):
        assert client.post(f"/output/{model_id}", json=record).status_code == 200


def test_a_model_that_cannot_be_looked_into_goes_on_answering(folder_client, registry, monkeypatch, record):
    model_id = registry.latest("credit")
    listdir, open_, isfile = os.listdir, os.open, os.path.isfile

    def refuse(path: Path | str) -> None:
        if model_id in str(path):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", lambda path: refuse(path) or listdir(path))
    monkeypatch.setattr(os, "open", lambda path, *more: refuse(path) or open_(path, *more))
    monkeypatch.setattr(os.path, "isfile", lambda path: model_id not in str(path) and isfile(path))
    for name in ("credit", model_id):
        assert folder_client.post(f"/output/{name}", json=record).json["model"] == model_id
    assert folder_client.get("/ready").json["registry"] == "ok"
    with pytest.raises(BrokenArtifactError, match="its manifest cannot be read"):
        Registry(registry.location).load(model_id)


def test_a_folder_that_never_was_one_answers_no_500(tmp_path, record):
    (tmp_path / "models").write_text("")
    client = create_app(Settings(model_registry=tmp_path / "models", auth_required=False)).test_client()
    statuses = {path: client.get(path).status_code for path in ("/", "/models", "/ready", "/ready/credit", "/health")}
    assert statuses == {"/": 200, "/models": 503, "/ready": 503, "/ready/credit": 503, "/health": 200}
    assert client.post("/output/credit", json=record).status_code == 503


def test_deleting_all_models_of_a_folder_is_no_loss(folder_client, registry):
    for model_id in registry.list():
        registry.delete(model_id)
    assert folder_client.get("/ready").status_code == 503
    assert folder_client.get("/models").json == {"models": []}


@pytest.mark.usefixtures("no_retries")
def test_a_listing_that_was_damaged_on_the_disk_is_not_believed(published, proxy, tmp_path):
    published.list()
    listing = kept(published, tmp_path) / CachedStore.LISTING
    proxy.fail("refuse")
    assert Registry(published.location, cache=tmp_path / "cache").list() == published.list()
    for damaged in ("", "[]", "{", '{"a": 1}', '{"a": [1]}', '{"a": ["x", "y", null]}', "null"):
        listing.write_text(damaged)
        with pytest.raises(StoreAwayError):
            Registry(published.location, cache=tmp_path / "cache").list()


def test_credentials_that_are_missing_are_no_secret(published, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreAwayError, match="NoCredentialsError"):
        Registry(published.location, cache=tmp_path / "none").list()


# a real server


@pytest.mark.slow
def test_gunicorn_serves_from_the_bucket_and_starts_without_it(published, registry, s3, proxy, record, tmp_path):
    environment = {
        **s3.environment(proxy),
        "MODEL_REGISTRY": published.location,
        "MODEL_CACHE": str(tmp_path / "served"),
        "WEB_CONCURRENCY": "2",
    }
    model_id = published.latest("credit")

    def ask(url: str) -> tuple[str, str]:
        request = urllib.request.Request(
            f"{url}/output/credit", json.dumps(record).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer, urllib.request.urlopen(f"{url}/ready") as ready:
            return json.load(answer)["model"], json.load(ready)["registry"]

    with running_server(tmp_path / "first.log", environment) as server:
        assert ask(server.url) == (model_id, "ok")
    proxy.fail("refuse")
    with running_server(tmp_path / "second.log", environment) as server:
        assert ask(server.url) == (model_id, "away")
        log = server.log.read_text()
    assert "the registry cannot be reached" in log
    assert "Traceback" not in log
    shutil.rmtree(tmp_path / "served")
    with running_server(tmp_path / "third.log", environment) as server, pytest.raises(HTTPError) as caught:
        ask(server.url)
    assert caught.value.code == 503
    assert json.load(caught.value)["detail"].startswith("The model registry cannot be reached")


def test_a_server_takes_a_new_model_from_the_bucket_by_itself(published, registry, s3, proxy, tmp_path):
    environment = {
        **s3.environment(proxy),
        "MODEL_REGISTRY": published.location,
        "MODEL_CACHE": str(tmp_path / "served"),
        "WEB_CONCURRENCY": "1",
    }
    relist = {"tabserve.registry.stores.RELIST_AFTER": 1}
    with running_server(tmp_path / "log", environment, relist) as server:
        new = copy_of(registry)
        registry.copy(new, published)
        deadline = time.monotonic() + 120
        served = None
        while served != new and time.monotonic() < deadline:
            with urllib.request.urlopen(f"{server.url}/ready", timeout=30) as answer:
                served = json.load(answer)["models"]["credit"]
            time.sleep(0.1)
    assert served == new
