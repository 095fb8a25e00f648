"""Training shards in S3, read through a network that fails: the batches of the same shards on a disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from tests.helpers.object_storage import BUCKET, SECRET, faulty_s3
from tests.helpers.shards import small_recipe, write_shards
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.training import shard_files
from tips_bench.training.batches import TrainingData
from tips_bench.training.captions import train_tokenizer

COUNTS = [14, 9, 20]

pytestmark = [
    pytest.mark.nightly,
    # botocore's calendar, and aiohttp's of a connection that was cut off
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*", "ignore::ResourceWarning"),
]


def batches(pattern: str, tokenizer: Tokenizer, count: int) -> list[torch.Tensor]:
    """Images, captions and numbers of the samples of so many batches."""
    data = TrainingData(small_recipe(pattern), tokenizer)
    made = data.batches(data.recipe.stages[0])
    taken = list(itertools.islice(made, count))
    made.close()
    return [tensor for one in taken for tensor in (one.global_B3HW, *one.locals, one.texts[0].ids_BL, one.samples_B)]


def test_faults_of_a_network_change_no_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("moto", "s3fs", "boto3"):
        pytest.importorskip(package, reason="needs the extra nightly")
    monkeypatch.setattr(shard_files, "FIRST_WAIT_S", 0.01)
    here = write_shards(tmp_path, COUNTS)
    train_tokenizer([f"web {n} a long account of room {n}" for n in range(50)], tmp_path / "tokenizer.model", 40)
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    count = 2 * sum(COUNTS) // 6  # two epochs
    with faulty_s3(sorted(tmp_path.glob("*.tar"))) as proxy:
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("FSSPEC_S3_KEY", SECRET)
        monkeypatch.setenv("FSSPEC_S3_SECRET", SECRET)
        from fsspec.config import conf, set_conf_env

        set_conf_env(conf)
        try:
            there = batches(f"s3://{BUCKET}/train-{{000..002}}.tar", tokenizer, count)
            by_wildcard = batches(f"s3://{BUCKET}/*.tar", tokenizer, 1)
        finally:
            conf.pop("s3")
    assert min(proxy.done[fault] for fault in ("500", "cut off", "late")) >= 3, proxy.done
    expected = batches(here, tokenizer, count)
    assert len(expected) == len(there) and all(a.equal(b) for a, b in zip(expected, there, strict=True))
    assert all(a.equal(b) for a, b in zip(expected, by_wildcard, strict=False))
