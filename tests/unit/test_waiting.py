"""What the processor reads of what a device computes, and when."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders.load import load_encoder
from tips_bench.encoders.waiting import BEHIND, LateChecks, sent
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.probes.trained.cross_entropy import upsampled_cross_entropy
from tips_bench.probes.trained.head_sweep import HeadSweep
from tips_bench.probes.trained.loop import SweepTrainee, Training, TrainingOptions

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# The processor waits for a GPU where it reads these.
READS = {f"aten.{name}.default" for name in ("_local_scalar_dense", "is_nonzero", "item", "nonzero")}
GEOMETRY, OPTIMIZERS = "geometry.py", "torch/optim"  # these read what is on the processor anyway
OPTIONS: dict[str, Any] = {
    "type": "linear",
    "iterations": 6,
    "batch_size": 2,
    "lr": [1e-3, 1e-2],
    "weight_decay": [0.0],
    "betas": (0.9, 0.999),
    "schedule": "cosine",
    "warmup": 0,
    "warmup_ratio": 1.0,
    "batch_norm": True,
    "dropout": 0.1,
    "clip": 1.0,
    "checkpoint_every": 3,
}


class Counted(TorchDispatchMode):
    """Counts what is read of tensors; on a GPU, an operation that waits is an error besides."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if str(func) in READS:
            frames = [frame.filename for frame in traceback.extract_stack()]
            if not any(name.endswith(GEOMETRY) or OPTIMIZERS in name for name in frames):
                self.reads.append(next(name for name in reversed(frames) if "tips_bench" in name))
        return func(*args, **(kwargs or {}))


class Crops(Dataset):
    """Two images of 56 x 56 pixels and their labels."""

    def __getitem__(self, iteration: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(iteration)
        return torch.rand(2, 3, 56, 56, generator=generator), torch.randint(0, 5, (2, 56, 56), generator=generator)


def loss(logits_BSChw: Tensor, truth_BHW: Tensor, padding: tuple[int, int, int, int], iteration: int) -> Tensor:
    grid, windows = (logits_BSChw.shape[-2], logits_BSChw.shape[-1]), Windows((56, 56), (56, 56), (0,), (0,))
    return upsampled_cross_entropy(logits_BSChw, truth_BHW, Upsampling.of(grid, padding, windows, (56, 56), logits_BSChw.device))


@pytest.fixture
def extractor(device: str) -> Extractor:
    encoder = load_encoder("tips-tiny-random", device=device)
    encoder.encode_image(torch.rand(1, 3, 56, 56))  # the range of pixels is looked at once
    return Extractor(encoder, ImageCard(short_side=56), FeatureCard())


@pytest.mark.parametrize("device", DEVICES)
def test_all_tensors_of_a_batch_are_checked_by_one_answer(extractor: Extractor, device: str) -> None:
    with Counted() as counted:
        extractor.encoder.encode_image(torch.rand(2, 3, 56, 56), layers=(0, -1))
    assert len(counted.reads) == 1 and counted.reads[0].endswith("waiting.py")


@pytest.mark.parametrize("device", DEVICES)
def test_training_reads_nothing_but_the_answer_of_a_step_before(extractor: Extractor, device: str, tmp_path: Path) -> None:
    options = TrainingOptions(**OPTIONS)
    sweep = HeadSweep(2, extractor.dim, 5, batch_norm=True, dropout=0.1, seed=0)
    trainee, encoder = SweepTrainee(options, extractor, sweep, loss), extractor.encoder
    crops = Crops()
    with encoder.checks.late():
        for iteration in range(BEHIND):
            trainee.step(iteration, crops[iteration])
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            with Counted() as counted:
                trainee.step(BEHIND, crops[BEHIND])
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    assert all(name.endswith("waiting.py") for name in counted.reads) and len(counted.reads) == 1


@pytest.mark.parametrize("device", DEVICES)
def test_losses_are_read_at_checkpoints_and_at_the_end(extractor: Extractor, device: str, tmp_path: Path) -> None:
    options = TrainingOptions(**OPTIONS)
    sweep = HeadSweep(2, extractor.dim, 5, batch_norm=True, dropout=0.1, seed=0)
    training = Training(6, 3, Crops(), tmp_path / "probe.pt", "identity", extractor.encoder, 0)
    with Counted() as counted:
        losses = training.run(SweepTrainee(options, extractor, sweep, loss))
    saved = torch.load(tmp_path / "probe.pt", weights_only=True)
    assert len(losses) == 2 and saved["iteration"] == 3 and saved["losses"] != losses
    assert sum(name.endswith("waiting.py") for name in counted.reads) == 6


def test_an_answer_is_read_at_once_or_some_checks_later_and_at_the_latest_at_the_end() -> None:
    checks, good, bad = LateChecks(), torch.tensor(True), torch.tensor(False)

    def error() -> UserError:
        return UserError("bad")

    checks.check(good, error)
    with pytest.raises(UserError, match="bad"):
        checks.check(bad, error)
    with pytest.raises(UserError, match="bad"), checks.late():
        checks.check(bad, error)
        checks.check(good, lambda: UserError("good"))
    with pytest.raises(UserError, match="bad"), checks.late():
        checks.check(good, error)
        checks.check(bad, error)
        checks.settle(1)
    with pytest.raises(UserError, match="bad"), checks.late():
        checks.check(bad, error)
        checks.settle()
    checks.check(good, error)  # nothing is left of what was raised


def test_features_that_are_not_finite_end_a_training_before_anything_of_them_is_kept(tmp_path: Path) -> None:
    encoder = load_encoder("tips-tiny-random", device="cpu")

    class Broken(Crops):
        def __getitem__(self, iteration: int) -> tuple[Tensor, Tensor]:
            pixels_B3HW, labels_BHW = super().__getitem__(iteration)
            return pixels_B3HW * (float("nan") if iteration == 2 else 1.0), labels_BHW

    extractor = Extractor(encoder, ImageCard(short_side=56), FeatureCard())
    sweep = HeadSweep(2, extractor.dim, 5, batch_norm=True, dropout=0.1, seed=0)
    training = Training(6, 3, Broken(), tmp_path / "probe.pt", "identity", encoder, 0)
    with pytest.raises(UserError, match="the features are not finite"):
        training.run(SweepTrainee(TrainingOptions(**OPTIONS), extractor, sweep, loss))
    assert not (tmp_path / "probe.pt").exists()


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_sent_to_a_device_is_the_same(device: str) -> None:
    values = torch.arange(12).reshape(3, 4).T
    found = sent(values, torch.device(device), torch.float32)
    assert found.dtype is torch.float32 and torch.equal(found.cpu(), values.float())
