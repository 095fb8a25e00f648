"""Corpora in S3, made and read through a network that fails, by processes that are killed: the files of a disk, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.corpora import image_folder
from tests.helpers.object_storage import BUCKET, SECRET, FaultyProxy, faulty_s3
from tips_bench.cards import load_card
from tips_bench.corpus.caption import Wish, caption
from tips_bench.corpus.check import check_corpus
from tips_bench.corpus.fetch import fetch
from tips_bench.corpus.filters import Limits
from tips_bench.corpus.sources.named import Asked, open_source
from tips_bench.corpus.storage import place
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen
from tips_bench.training import shard_files

pytestmark = [
    pytest.mark.nightly,
    # botocore's calendar, and aiohttp's of a connection that was cut off
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*", "ignore::ResourceWarning"),
]
ROOT = Path(__file__).resolve().parents[2]
WISH = Wish("pixels", (load_card("prompt", "short"),))


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    for package in ("moto", "s3fs", "boto3"):
        pytest.importorskip(package, reason="needs the extra nightly")
    monkeypatch.setattr(shard_files, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    with faulty_s3([]) as server:
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("FSSPEC_S3_KEY", SECRET)
        monkeypatch.setenv("FSSPEC_S3_SECRET", SECRET)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        from fsspec.config import conf, set_conf_env

        set_conf_env(conf)
        try:
            yield server
        finally:
            conf.pop("s3")


def there(proxy: FaultyProxy, folder: str) -> dict[str, bytes]:
    """The files of a whole corpus, read past the proxy."""
    import boto3

    own: dict[str, Any] = {"aws_access_key_id": SECRET, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=proxy.upstream.geturl(), **own)
    names = [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/").get("Contents", [])]
    found = {name.removeprefix(f"{folder}/"): client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}
    client.close()
    return found


def here(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def fetched(photos: Path, to: Path, chosen: Chosen | None = None) -> None:
    fetch(open_source(str(photos), Asked()), to, Limits(), size=4, license=None, chosen=chosen)


def test_a_corpus_is_fetched_captioned_and_checked_through_a_network_that_fails(tmp_path: Path, proxy: FaultyProxy) -> None:
    photos = image_folder(tmp_path / "photos", 42)
    fetched(photos, tmp_path / "raw")
    caption(tmp_path / "raw", tmp_path / "captioned", WISH)
    fetched(photos, place(f"s3://{BUCKET}/raw"))
    caption(place(f"s3://{BUCKET}/raw"), place(f"s3://{BUCKET}/captioned"), WISH)
    report = check_corpus(place(f"s3://{BUCKET}/captioned"))
    assert min(proxy.done[fault] for fault in ("500", "cut off", "late")) >= 3, proxy.done
    assert there(proxy, "raw") == here(tmp_path / "raw") and there(proxy, "captioned") == here(tmp_path / "captioned")
    assert report.samples == 42 and report.faults == []


@pytest.mark.parametrize("chosen", [Chosen("local", {}, 2), Chosen("slurm", {"cluster": "local"})], ids=["local", "submitit"])
def test_executors_make_a_corpus_in_s3(tmp_path: Path, proxy: FaultyProxy, chosen: Chosen) -> None:
    photos = image_folder(tmp_path / "photos", 14)
    fetched(photos, tmp_path / "raw")
    fetched(photos, place(f"s3://{BUCKET}/raw"), chosen)
    assert there(proxy, "raw") == here(tmp_path / "raw")


def test_a_command_that_is_killed_is_taken_up_by_two_others(tmp_path: Path, proxy: FaultyProxy) -> None:
    photos = image_folder(tmp_path / "photos", 80)  # 20 shards
    fetched(photos, tmp_path / "raw")
    line = ["corpus", "fetch", str(photos), "--to", f"s3://{BUCKET}/raw", "--samples-per-shard", "4"]

    def started(*more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tips_bench", *line, *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ))

    first, until = started("--on", "local", "--jobs", "2"), time.monotonic() + 120
    while not (up := there(proxy, "raw").keys() & {f".fetch/{number:05d}.json" for number in range(20)}) and time.monotonic() < until:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert up and "corpus.json" not in there(proxy, "raw")
    for process in [started(), started()]:
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0, out.decode()
    assert there(proxy, "raw") == here(tmp_path / "raw")


def test_a_bucket_that_is_not_there_is_told_of_before_any_work_and_is_not_made(tmp_path: Path, proxy: FaultyProxy) -> None:
    image_folder(tmp_path / "photos", 2)
    for address in ("s3://nowhere/raw", "s3://nowhere"):
        with pytest.raises(UserError, match=r"\.owner\.json: it cannot be written \(The specified bucket does not exist\)"):
            fetched(tmp_path / "photos", place(address))
    import boto3

    own: dict[str, Any] = {"aws_access_key_id": SECRET, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=proxy.upstream.geturl(), **own)
    assert [one["Name"] for one in client.list_buckets()["Buckets"]] == [BUCKET]
    client.close()
