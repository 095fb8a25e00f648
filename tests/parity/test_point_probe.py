"""The probes on points: what the bank holds, and the linear one against a plain loop with torch's own layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.contexts import Fitting, fitting
from tests.helpers.scans import write_both
from tips_bench.cards import load_card
from tips_bench.data.scannet import scannet
from tips_bench.encoders.load import load_encoder
from tips_bench.features.extract import Extractor
from tips_bench.features.lifting import LiftingOptions, lift
from tips_bench.probes.trained.linear_points import LinearPointsOptions, LinearPointsProbe, PointTrainee, fill_points

QUOTA = 700
LIFTING = LiftingOptions(occlusion="lexicon3d", tolerance=0.25, border=0.03125, neighbors=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_both(tmp_path_factory.mktemp("scans"))[1]


def context(root: Path, work: Path, seed: int = 5) -> Fitting:
    card = load_card("protocol", "linear-lexicon3d")
    image = card.image.model_copy(update={"short_side": 56})
    extractor = Extractor(load_encoder("pixels"), image, card.features, 2, 1)
    return fitting(extractor, scannet(root, "train", frame_step=1), work, window=card.inference, selection=card.selection, seed=seed)


def options(**changes: object) -> dict:
    probe = load_card("protocol", "linear-lexicon3d").probe
    return {**probe, "points_per_scan": QUOTA, "epochs": 3, "checkpoint_every": 2, "lr": 1e-2, **changes}


def test_the_bank_holds_lifted_features_of_labelled_points_that_a_frame_sees(root: Path, tmp_path: Path) -> None:
    given = context(root, tmp_path)
    bank = fill_points(*given, LIFTING, QUOTA)
    for item in range(3):
        scan = given.reader.load(item)
        whole = lift(scan.points_N3, given.reader.frames(item), given.extractor, LIFTING)
        usable_N = (scan.labels_N < 20) & (whole.number_N.numpy() > 0)
        counts_RC, features_RD = bank.store.read(item, "counts"), bank.store.read(item, "features")
        assert len(counts_RC) == QUOTA and usable_N.sum() > QUOTA and counts_RC.sum() == QUOTA
        candidates = {row.tobytes(): label for row, label in zip(whole.features_ND[usable_N].numpy(), scan.labels_N[usable_N], strict=True)}
        assert all(candidates[row.tobytes()] == counts.argmax() for row, counts in zip(features_RD, counts_RC, strict=True))


@pytest.mark.parametrize("softmax_twice", [False, True])
def test_training_is_that_of_a_plain_loop_over_scans(root: Path, tmp_path: Path, softmax_twice: bool) -> None:
    given = context(root, tmp_path)
    chosen = options(softmax_twice=softmax_twice, weight_decay=1e-3)
    bank = fill_points(*given, LIFTING, QUOTA)
    layer = torch.nn.Linear(given.extractor.dim, 20)
    start = PointTrainee(LinearPointsOptions(**chosen), given.context, bank, 20)
    bound = 1 / given.extractor.dim**0.5
    for ours, theirs in ((start.weight_CD.detach(), layer.weight.data), (start.bias_C.detach(), layer.bias.data)):
        assert max(float(ours.abs().max()), float(theirs.abs().max())) <= bound, "drawn from one distribution"
        assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.5)
        theirs.copy_(ours)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2, weight_decay=1e-3)
    for epoch in range(3):
        for item in np.random.default_rng([5, epoch]).permutation(3):
            features_RD = torch.from_numpy(bank.store.read(int(item), "features"))
            labels_R = torch.from_numpy(bank.store.read(int(item), "counts").argmax(1))
            prediction = layer(features_RD)
            loss = torch.nn.CrossEntropyLoss()(prediction.softmax(-1) if softmax_twice else prediction, labels_R)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    given.context.scratch.close()  # the fit opens the bank again
    fit = LinearPointsProbe(chosen, "test").fit(*given)
    torch.testing.assert_close(fit.head.weight_CD, layer.weight.detach(), atol=2e-5, rtol=0)
    torch.testing.assert_close(fit.head.bias_C, layer.bias.detach(), atol=2e-5, rtol=0)
    assert fit.report["steps"] == 9 and fit.report["loss"] == pytest.approx(float(loss.detach()), abs=1e-4)
