"""Weights from an address and from a Hugging Face hub that runs on this machine, asked by huggingface_hub itself."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.contract.test_encoders import make_folder
from tests.integration.broken_server import Server, running
from tips_bench import fetch as fetching
from tips_bench import load_encoder
from tips_bench.cards import WeightsCard
from tips_bench.encoders.hub import fetch_weights, shard_names
from tips_bench.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves folders as repositories."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}

    def add(self, repo: str, name: str, content: bytes) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        for revision in ("main", COMMIT):
            self.server.serve(f"{repo}/resolve/{revision}/{name}", content, etag=etag, headers={"X-Repo-Commit": COMMIT})

    def add_folder(self, repo: str, folder: Path) -> None:
        for path in folder.iterdir():
            self.add(repo, path.name, path.read_bytes())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)
    with running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        yield Hub(server)


def test_weights_of_an_address_lie_in_the_cache(hub: Hub) -> None:
    path = fetch_weights(WeightsCard(url=hub.server.serve("deep/m.npz", b"weights")), "m")
    assert path.name == "m.npz" and path.read_bytes() == b"weights"
    assert path.is_relative_to(Path(os.environ["TIPS_BENCH_CACHE"]) / "weights")


def test_weights_of_a_repository_are_recorded_at_their_first_use(hub: Hub) -> None:
    hub.add("owner/model", "model.safetensors", b"weights")
    card = WeightsCard(hub="owner/model", file="model.safetensors")
    path = fetch_weights(card, "m")
    assert path.read_bytes() == b"weights" and fetch_weights(card, "m") == path
    path.resolve().write_bytes(b"changed")
    with pytest.raises(UserError, match="at its first use it was " + hashlib.sha256(b"weights").hexdigest()):
        fetch_weights(card, "m")


def test_a_published_hash_is_compared(hub: Hub) -> None:
    hub.add("owner/model", "model.safetensors", b"weights")
    good, size = hashlib.sha256(b"weights").hexdigest(), len(b"weights")
    assert fetch_weights(WeightsCard(hub="owner/model", file="model.safetensors", sha256=good, size=size), "m").is_file()
    with pytest.raises(UserError, match="expected 0000"):
        fetch_weights(WeightsCard(hub="owner/model", file="model.safetensors", sha256="0" * 64), "m")


def test_a_model_in_shards_is_fetched_whole_and_known_by_all_of_them(hub: Hub, tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    half = sorted(state)[: len(state) // 2]
    shards = {"a.safetensors": {key: state[key] for key in half}, "b.safetensors": {key: state[key] for key in state if key not in half}}
    for name, part in shards.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    index = {"weight_map": {key: name for name, part in shards.items() for key in part}}
    whole = load_encoder(folder, device="cpu")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.add_folder("owner/sharded", folder)
    encoder = load_encoder("hf:owner/sharded", device="cpu")
    pixels = torch.rand(1, 3, 28, 28)
    assert torch.equal(encoder.encode_image(pixels).patches[0], whole.encode_image(pixels).patches[0])
    assert encoder.spec.name == "hf:owner/sharded" and len(encoder.spec.weights_sha256) == 64
    part = shards["b.safetensors"]
    save_file({key: value + 1 for key, value in part.items()}, folder / "b.safetensors", metadata={"format": "pt"})
    assert load_encoder(folder, device="cpu").spec.weights_sha256 != encoder.spec.weights_sha256


def test_a_repository_of_tips_goes_to_our_own_towers(hub: Hub, tmp_path: Path) -> None:
    from tips_bench.models.configs import TextConfig, VisionConfig
    from tips_bench.models.files.checkpoints import export_huggingface
    from tips_bench.models.text import TextTower
    from tips_bench.models.vision import VisionTower

    shape = {"name": "toy", "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_dim": 64}
    vision = VisionTower.random(VisionConfig(**shape, position_grid=(4, 4)), 3)
    export_huggingface(tmp_path / "toy", vision, TextTower.random(TextConfig(**shape, vocab_size=20), 3))
    hub.add_folder("google/toy", tmp_path / "toy")
    encoder = load_encoder("hf:google/toy", device="cpu")
    assert type(encoder).__name__ == "TipsEncoder" and encoder.spec.name == "hf:google/toy"


def test_what_is_not_there_is_named(hub: Hub) -> None:
    hub.add("owner/model", "config.json", b'{"model_type": "dinov2"}')
    with pytest.raises(UserError, match=r"m: owner/model/model\.safetensors: there is no such repository, revision or file"):
        fetch_weights(WeightsCard(hub="owner/model", file="model.safetensors"), "m")
    with pytest.raises(UserError, match=r"m: a/b/c/w\.npz: there is no such repository"):
        fetch_weights(WeightsCard(hub="a/b/c", file="w.npz"), "m")
    with pytest.raises(UserError, match="neither a url nor a hub repository with a file"):
        fetch_weights(WeightsCard(hub="a/b"), "m")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "../x"}}', '{"weight_map": {"a": 3}}'])
def test_an_index_that_is_none_or_leads_out_is_refused(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(UserError, match=r"not an index of weight shards|points outside its folder"):
        shard_names(index)
