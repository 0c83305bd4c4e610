"""`tabserve score` with S3, whose server may go away."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from tabserve.cli.commands import tabserve
from tabserve.registry.registry import Registry
from tabserve.scoring import storage
from tabserve.scoring.storage import Buckets, Draft
from tests.buckets import S3, Proxy


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as running:
        yield running


@pytest.fixture
def proxy(s3: S3) -> Proxy:
    return s3.proxy()


@pytest.fixture
def bucket(s3: S3, proxy: Proxy, trained: Registry, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with the name that the environment's S3 has, behind the proxy."""
    for name, value in {**s3.environment(proxy), "MODEL_REGISTRY": str(trained.location)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        storage, "_LIMITS", {"connect_timeout": 1, "read_timeout": 2, "retries": {"total_max_attempts": 1}}
    )
    monkeypatch.setattr(storage, "_ATTEMPTS", 1)
    storage._bucket.cache_clear()
    return s3.bucket()


def score(*arguments: str) -> Result:
    result = CliRunner().invoke(tabserve, ["score", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def content(records: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records), sink)
    return sink.getvalue().to_pybytes()


def keys(s3: S3, bucket: str) -> list[str]:
    return [one["Key"] for one in s3.client().list_objects_v2(Bucket=bucket).get("Contents", ())]


def uploads(s3: S3, bucket: str) -> list[str]:
    return [one["Key"] for one in s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def test_a_prefix_is_scored_into_another_and_a_second_run_keeps_it(s3, bucket, records):
    s3.client().put_object(Bucket=bucket, Key="in/a.parquet", Body=content(records[:20]))
    s3.client().put_object(Bucket=bucket, Key="in/deep/b.parquet", Body=content(records[:30]))
    s3.client().put_object(Bucket=bucket, Key="in/_SUCCESS", Body=b"")
    result = score("credit", f"s3://{bucket}/in", f"s3://{bucket}/out/")
    assert result.exit_code == 0, result.output
    scores = pq.read_table(
        pa.BufferReader(s3.client().get_object(Bucket=bucket, Key="out/deep/b.parquet")["Body"].read())
    )
    assert (len(scores), scores.schema.names[-1]) == (30, "probability")
    assert keys(s3, bucket) == [
        "in/_SUCCESS",
        "in/a.parquet",
        "in/deep/b.parquet",
        "out/.tabserve/a.parquet.json",
        "out/.tabserve/deep/b.parquet.json",
        "out/a.parquet",
        "out/deep/b.parquet",
    ]
    again = score("credit", f"s3://{bucket}/in/*.parquet", f"s3://{bucket}/out")
    assert [one["skipped"] for one in json.loads(again.stdout)["files"]] == [True]
    assert uploads(s3, bucket) == []


def test_a_bucket_that_goes_away_in_the_middle_leaves_nothing_half_written(s3, bucket, proxy, records, monkeypatch):
    s3.client().put_object(Bucket=bucket, Key="in/a.parquet", Body=content(records))
    draft = Buckets.draft

    def draft_and_lose(self: Buckets, path: str) -> Draft:
        begun = draft(self, path)
        if path.endswith("out/a.parquet"):
            proxy.fail("refuse")
        return begun

    monkeypatch.setattr(Buckets, "draft", draft_and_lose)
    result = score("credit", f"s3://{bucket}/in/a.parquet", f"s3://{bucket}/out/")
    assert result.exit_code == 1
    assert "a.parquet cannot be" in result.stderr
    assert "Traceback" not in result.output
    assert "out/a.parquet" not in keys(s3, bucket)
    proxy.mode = "pass"
    monkeypatch.setattr(Buckets, "draft", draft)
    s3.client().delete_object(Bucket=bucket, Key="out/.tabserve/.lock")  # as if this process had ended
    result = score("credit", f"s3://{bucket}/in/a.parquet", f"s3://{bucket}/out/")
    assert result.exit_code == 0, result.output
    assert uploads(s3, bucket) == []


def test_what_a_dead_run_left_in_a_bucket_is_cleaned_and_its_lock_is_taken_over(
    s3, bucket, records, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    s3.client().create_multipart_upload(Bucket=bucket, Key="out/a.csv")
    s3.client().create_multipart_upload(Bucket=bucket, Key="other/a.csv")
    dead = {"who": "process 1 on elsewhere", "host": "elsewhere", "pid": 1, "at": 0}
    s3.client().put_object(Bucket=bucket, Key="out/.tabserve/.lock", Body=json.dumps(dead).encode())
    Path("a.csv").write_text(",".join(records[0]) + "\n" + ",".join(map(str, records[0].values())) + "\n")
    assert score("credit", "a.csv", f"s3://{bucket}/out/").exit_code == 0
    assert uploads(s3, bucket) == ["other/a.csv"]
    assert "out/.tabserve/.lock" not in keys(s3, bucket)
    with Buckets().hold(f"s3://{bucket}/new/.tabserve/.lock"):
        result = score("credit", "a.csv", f"s3://{bucket}/new/")
        assert result.exit_code == 1
        assert "Another run writes to this destination (process" in result.stderr


def test_sources_in_a_bucket_that_is_not_there_are_named(bucket, proxy):
    result = score("credit", "s3://tabserve-no-such-bucket/in/", "out")
    assert result.exit_code == 1
    assert "s3://tabserve-no-such-bucket/in/" in result.stderr
    proxy.fail("refuse")
    result = score("credit", f"s3://{bucket}/in/", "out")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
