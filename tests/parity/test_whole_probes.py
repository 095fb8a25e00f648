"""Linear heads in one pass against separate runs of torch, crops against torchvision, the convex classifier against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn
from torchvision import transforms

from tests.helpers.contexts import Fitting, fitting
from tests.helpers.whole_sets import Drawn
from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.data.crops.resized import ResizedCropCard, ResizedCrops
from tips_bench.encoders.load import load_encoder
from tips_bench.features.cache import FeatureCache
from tips_bench.features.extract import Extractor
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images
from tips_bench.probes.image_heads import AffineHeads
from tips_bench.probes.solved.image_convex import ImageConvexProbe
from tips_bench.probes.trained.classifier_sweep import INITIAL_DEVIATION, ClassifierSweep, Inputs
from tips_bench.probes.trained.schedules import lr_factor

ITERATIONS, BATCH, DIM, LAYERS, CLASSES = 60, 16, 6, 4, 5
LRS = [0.003, 0.1, 0.7]
INPUTS = [Inputs(1, False), Inputs(1, True), Inputs(4, False), Inputs(4, True)]


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ITERATIONS, BATCH, DIM * (LAYERS + 1), generator=generator)
    return list(zip(features, torch.randint(0, CLASSES, (ITERATIONS, BATCH), generator=generator), strict=True))


def swept() -> tuple[ClassifierSweep, torch.Tensor]:
    columns = [inputs.columns(DIM, LAYERS) for inputs in INPUTS]
    sweep = ClassifierSweep(columns, LRS, CLASSES, momentum=0.9, seed=0, device="cpu")
    for iteration, (features_BF, labels_B) in enumerate(batches()):
        losses_S = sweep.step(features_BF, labels_B, lr_factor("cosine", iteration, ITERATIONS, 0, 1.0))
    return sweep, losses_S


def dinov2_input(features_BF: torch.Tensor, blocks: int, mean: bool) -> torch.Tensor:
    """dinov2/eval/linear.py, create_linear_input: tokens of the last blocks, then the mean of the last patches."""
    tokens = features_BF[:, : DIM * LAYERS].split(DIM, 1)[-blocks:]
    return torch.cat([*tokens, features_BF[:, DIM * LAYERS :]] if mean else tokens, 1)


def test_one_pass_equals_separate_runs_of_sgd() -> None:
    sweep, losses_S = swept()
    losses, heads = iter(losses_S), sweep.heads()
    for inputs, affine in zip(INPUTS, heads, strict=True):
        for head, lr in enumerate(LRS):
            linear = nn.Linear(len(affine.columns_D), CLASSES)
            start_CD = torch.randn(CLASSES, len(affine.columns_D), generator=torch.Generator().manual_seed(0)) * INITIAL_DEVIATION
            linear.weight.data, linear.bias.data = start_CD, torch.zeros(CLASSES)
            optimizer = torch.optim.SGD(linear.parameters(), lr=lr, momentum=0.9, weight_decay=0)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS, eta_min=0)
            for features_BF, labels_B in batches():
                loss = nn.functional.cross_entropy(linear(dinov2_input(features_BF, inputs.blocks, inputs.mean)), labels_B)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            torch.testing.assert_close(affine.weight_LCD[head], linear.weight.data, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(affine.bias_LC[head], linear.bias.data, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(next(losses), loss.detach(), rtol=1e-4, atol=1e-6)


def test_scores_of_all_heads_are_those_of_each_and_survive_the_disk(tmp_path: Path) -> None:
    sweep, _ = swept()
    heads = AffineHeads(sweep.heads(), 5)
    features_BF = batches()[0][0]
    scores_SBC = heads.scores(features_BF.numpy())
    assert scores_SBC.shape == (len(INPUTS) * len(LRS), BATCH, CLASSES) and heads.candidates == len(scores_SBC)
    expected_BC = dinov2_input(features_BF, 4, False) @ sweep.weights[2][1].T + sweep.biases[2][1]
    np.testing.assert_allclose(scores_SBC[2 * len(LRS) + 1], expected_BC, rtol=1e-5, atol=1e-6)
    heads.save(tmp_path / "head.npz")
    loaded = AffineHeads.load(tmp_path / "head.npz")
    assert loaded.choice == 5
    np.testing.assert_array_equal(loaded.scores(features_BF.numpy()), scores_SBC)


def test_a_crop_is_that_of_torchvision_in_the_same_random_state() -> None:
    reader = Drawn(np.arange(6) % 3, ["a", "b", "c"], side=90)
    card = ResizedCropCard(size=40, scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=0.5, interpolation="bicubic")
    crops = ResizedCrops(reader, card, [0, 2, 3, 5], seed=7)
    steps = [transforms.RandomResizedCrop(40, interpolation=transforms.InterpolationMode.BICUBIC), transforms.RandomHorizontalFlip(0.5)]
    theirs = transforms.Compose([*steps, transforms.PILToTensor()])
    mirrored = 0
    for number in range(12):
        before = torch.random.get_rng_state()
        pixels_3HW, label = crops.crop(number)
        assert torch.equal(before, torch.random.get_rng_state())
        again_3HW, _ = crops.crop(number)
        assert torch.equal(pixels_3HW, again_3HW)
        order = np.random.default_rng([7, number // 4]).permutation(4)
        sample = reader.load([0, 2, 3, 5][order[number % 4]])
        torch.manual_seed(int(np.random.SeedSequence([7, number]).generate_state(1, np.uint64)[0]))
        expected_3HW = theirs(Image.fromarray(sample.image_HW3))
        assert label == sample.label and torch.equal(pixels_3HW, expected_3HW)
        mirrored += not torch.equal(pixels_3HW, expected_3HW.flip(-1))
    assert mirrored


def context(folder: Path, reader: Drawn, **features: object) -> Fitting:
    image = ImageCard(short_side=28, shape="center-crop")
    extractor = Extractor(load_encoder("tips-tiny-random"), image, FeatureCard(**features), batch_size=8)
    return fitting(extractor, reader, folder)


def test_the_convex_classifier_is_scikit_learns(tmp_path: Path) -> None:
    reader = Drawn(np.random.default_rng(0).integers(0, 4, 70), list("abcd"))
    options = {"type": "whole-convex", "penalties": [0.01], "tolerance": 1e-7, "selection_tolerance": 1e-3, "max_iterations": 3000}
    probe = ImageConvexProbe({**options, "resident_gb": 1.0}, "test")
    setting = context(tmp_path, reader, global_token=0)
    fit = probe.fit(*setting)
    store = encode_images(setting.extractor, setting.train, probe.embedding(setting.extractor), FeatureCache(tmp_path / "own"), "all")
    features_NF = np.array(store.arrays["features"], dtype=np.float64)
    mean_F, deviation_F = features_NF.mean(0), features_NF.std(0)
    theirs = LogisticRegression(C=1 / (0.01 * len(features_NF)), tol=1e-10, max_iter=20000)
    theirs.fit((features_NF - mean_F) / deviation_F, reader.labels_N)
    shares_NC = torch.softmax(torch.from_numpy(fit.head.scores(store.arrays["features"])[0]).double(), 1).numpy()
    np.testing.assert_allclose(shares_NC, theirs.predict_proba((features_NF - mean_F) / deviation_F), atol=2e-5)
    assert fit.report["images"] == 70 and fit.report["converged"] and fit.choice is None


@pytest.mark.parametrize("mean", [False, True])
def test_features_of_a_whole_image_are_the_encoders_tokens_and_the_mean_of_its_patches(mean: bool) -> None:
    setting = context(Path("unused"), Drawn(np.zeros(3, int), ["a"]), layers=[-2, -1], global_token=1)
    encoder, pixels_B3HW = setting.extractor.encoder, torch.rand(3, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    found = encoder.encode_image(pixels_B3HW, layers=(2, 3))
    expected = [own_BKD[:, 1] for own_BKD in found.layer_globals] + [found.patches[-1].mean((1, 2))] * mean
    whole = ImageEmbedding.tokens(setting.extractor, mean=mean)
    torch.testing.assert_close(whole.encode(pixels_B3HW), torch.cat(expected, 1))
    assert whole.dim == 192 * (2 + mean)


def test_without_a_global_token_it_is_the_mean() -> None:
    setting = context(Path("unused"), Drawn(np.zeros(3, int), ["a"]))
    pixels_B3HW = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected_BD = setting.extractor.encoder.encode_image(pixels_B3HW).patches[-1].mean((1, 2))
    torch.testing.assert_close(ImageEmbedding.tokens(setting.extractor).encode(pixels_B3HW), expected_BD)
