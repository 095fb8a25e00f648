"""Zero-shot segmentation end to end: the command line on rooms, a background with a threshold, kills, caches and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tests.contract.test_encoders import make_folder
from tests.helpers.segmentation_sets import write_set
from tests.helpers.toy_tips import write_toy
from tests.integration.conftest import write_shapes
from tips_bench import load_encoder
from tips_bench.cards import load_card
from tips_bench.cli.app import app
from tips_bench.data.validation_split import hold_out
from tips_bench.encoders.base import Encoder, EncoderSpec, ImageFeatures
from tips_bench.encoders.tips import TipsEncoder
from tips_bench.encoders.transformers import TransformersEncoder
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.features.extract import Extractor
from tips_bench.results.record import load_record

NAMES = {"ground": ["grass", "floor"], "disc": "red disc", "bar": "blue bar", "ring": "ring"}
ROOMS = [f"task.data.generator_options.{key}" for key in ("train=4", "val=8")]
PROTOCOLS = ["tips-values", "tips-slide", "tcl-slide", "maskclip-any", "patch-text"]
SLIDE = ["image.short_side=84", "inference.window=70", "inference.stride=42", "selection.fraction=0.3"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_toy(tmp_path_factory.mktemp("models") / "toy"))


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Coloured shapes on a ground that is the background, and a task card for them; the working directory."""
    write_shapes(tmp_path / "data" / "shapes", train=10, val=6)
    card = {
        "name": "shapes-zeroshot", "family": "zeroshot-segmentation", "title": "Shapes", "version": 1, "protocol": "tcl-slide",
        "protocols": [*PROTOCOLS, "sclip", "proxyclip"], "primary": "mIoU", "license": "none", "citation": "none",
        "homepage": "none", "how_to_get": "drawn",
        "data": {"reader": "folder", "root": "shapes", "splits": {"train": "train", "test": "val"}},
        "options": {"names": NAMES, "background": "ground"},
    }  # fmt: skip
    (tmp_path / "tips-bench-cards" / "tasks").mkdir(parents=True)
    (tmp_path / "tips-bench-cards" / "tasks" / "shapes-zeroshot.yaml").write_text(yaml.safe_dump(card, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path / "data"))
    return tmp_path


def killed_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    encode, count = Extractor._encode, [0]

    def dying(self: Extractor, pixels: torch.Tensor) -> object:
        count[0] += 1
        if count[0] > calls:
            raise SystemExit("killed")
        return encode(self, pixels)

    monkeypatch.setattr(Extractor, "_encode", dying)


def test_random_towers_segment_rooms_at_chance_through_the_command_line(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--task", "rooms-zeroshot", "--model", toy, "--out", "out", "--pictures", "2"]
    for assignment in ROOMS:
        arguments += ["--set", assignment]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    path = next((tmp_path / "out" / "rooms-zeroshot" / "toy").glob("tips-values-224-*.json"))
    record = load_record(path)
    low, high = record.metrics["mIoU"].ci95
    # A random map of 42 classes agrees with the truth on 1 pixel in 42, and its mIoU is far below the mean class accuracy of 100 / 42.
    assert 0 <= low <= record.metrics["mIoU"].value <= high < 100 / 42
    assert record.metrics["mIoU"].n == 8 and record.selection is None and record.dataset.train_n == 0
    assert record.cost.image_forwards == 8 and len(record.per_class["IoU"]) == 42
    assert len(record.pictures) == 3 and all((path.parent / name).is_file() for name in record.pictures)
    assert CliRunner().invoke(app, ["table", "out"]).exit_code == 0


@pytest.mark.parametrize("name", ["ade150", "pc59", "pc60", "voc20", "voc21", "cocostuff", "cityscapes", "coco-object"])
def test_every_set_of_the_papers_is_scored_from_its_own_layout(name: str, toy: str, tmp_path: Path) -> None:
    card = load_card("task", f"zeroshot-{name}")
    rng = np.random.default_rng(0)
    masks = {f"{number:02d}": rng.integers(1, 19, (24, 36), dtype=np.uint8) for number in range(3)}
    write_set(tmp_path / card.data.root, {"coco-object": "coco-stuff164k"}.get(card.data.reader, card.data.reader), masks)
    changes = ["image.short_side=28", "probe.prompts=['a photo of a {}.']"]
    record = evaluate(card.name, toy, "tips-values", data_root=tmp_path, out=tmp_path / "out", overrides=changes)
    assert record.metrics["mIoU"].n == 3 and record.family == "zeroshot-segmentation" and record.dataset.train_n == 0
    assert list(record.per_class["IoU"]) == record.dataset.classes
    assert [label.strip() for label in record.dataset.classes] == list(card.options["names"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_counts_every_pixel_whatever_the_batch_size(shapes: Path, toy: str, protocol: str) -> None:
    changes = SLIDE if "slide" in protocol else ["image.short_side=75"]
    records = [evaluate("shapes-zeroshot", toy, protocol, out=shapes / str(size), overrides=changes, batch_size=size) for size in (1, 5)]
    assert records[0].metrics == records[1].metrics and records[0].selection == records[1].selection
    labeled = sum(int((np.load(shapes / "1" / "shapes-zeroshot" / "toy" / records[0].per_sample)["counts"])[:, 2].sum()) for _ in "1")
    assert labeled == sum((height - 3) * width for height, width in [(84, 98), (98, 84), (70, 90)] * 2)
    windows = 3 if "slide" in protocol else 1
    held = 3 if protocol == "tcl-slide" else 0
    assert records[0].cost.image_forwards >= windows * 6 + held


def test_a_threshold_comes_from_training_images_alone_and_is_reported(shapes: Path, toy: str) -> None:
    record = evaluate("shapes-zeroshot", toy, out=shapes / "a", overrides=SLIDE)
    chosen = record.selection
    assert chosen is not None and chosen.metric == "mIoU" and len(chosen.grid) == 20 == len(chosen.scores)
    assert record.probe["threshold"] == chosen.grid[chosen.choice]["threshold"] and chosen.choice == int(np.argmax(chosen.scores))
    ids = [f"{number:03d}" for number in range(10)]
    assert chosen.held_out == len(hold_out(ids, ids, 0.3)[1]) and record.dataset.train_n == 10
    assert record.per_class["IoU"]["ground"] > 0
    # other test images, the same training images: the same threshold
    write_shapes(shapes / "new", train=1, val=6, seed=9)
    for kind in ("images", "labels"):
        for path in (shapes / "new" / kind / "val").iterdir():
            path.replace(shapes / "data" / "shapes" / kind / "val" / path.name)
    again = evaluate("shapes-zeroshot", toy, out=shapes / "b", overrides=SLIDE)
    assert again.selection == chosen and again.dataset.fingerprint != record.dataset.fingerprint
    threshold = ["probe.shares=[]", f"probe.threshold={record.probe['threshold']}"]
    fixed = evaluate("shapes-zeroshot", toy, out=shapes / "c", overrides=[*SLIDE, *threshold])
    assert fixed.metrics == again.metrics and fixed.selection is None and fixed.dataset.train_n == 0


@pytest.mark.parametrize("calls", [2, 9])
def test_a_killed_run_is_taken_up_to_the_same_record(shapes: Path, toy: str, calls: int) -> None:
    whole = evaluate("shapes-zeroshot", toy, out=shapes / "a", overrides=SLIDE, batch_size=2)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        killed_after(patch, calls)
        evaluate("shapes-zeroshot", toy, out=shapes / "b", overrides=SLIDE, batch_size=2)
    resumed = evaluate("shapes-zeroshot", toy, out=shapes / "b", overrides=SLIDE, batch_size=2)
    assert resumed.metrics == whole.metrics and resumed.selection == whole.selection and resumed.cost.resumed
    assert resumed.cost.image_forwards < whole.cost.image_forwards


def test_cached_features_and_texts_give_the_same_record_without_the_towers(shapes: Path, toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"overrides": ["image.short_side=75"], "protocol": "tips-values"}
    plain = evaluate("shapes-zeroshot", toy, out=shapes / "a", **options)
    filled = evaluate("shapes-zeroshot", toy, out=shapes / "b", cache=True, **options)
    encode, asked = TipsEncoder.encode_text, []
    monkeypatch.setattr(TipsEncoder, "encode_text", lambda self, texts: asked.append(len(texts)) or encode(self, texts))
    reused = evaluate("shapes-zeroshot", toy, out=shapes / "c", cache=True, **options)
    assert plain.metrics == filled.metrics == reused.metrics
    assert (filled.cost.image_forwards, reused.cost.image_forwards, asked) == (6, 0, [1])


class WithText(Encoder):
    """A user's encoder with text and without a value path; wide: features of another width than its texts."""

    def __init__(self, wide: bool = False) -> None:
        stated = {"patch_size": 14, "embed_dim": 12, "depth": 1, "mean": (0, 0, 0), "std": (1, 1, 1), "resolution": 84, "global_tokens": 0}
        self.spec = EncoderSpec(name="own", has_text=True, weights_sha256="x", license="x", **stated)
        self.device, self.dtype, self.text_dim = torch.device("cpu"), torch.float32, 13 if wide else 12

    def _encode(self, pixels_B3HW: torch.Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        cells = torch.nn.functional.adaptive_avg_pool2d(pixels_B3HW, [side // 14 for side in pixels_B3HW.shape[-2:]])
        patches = cells.repeat(1, 4, 1, 1).permute(0, 2, 3, 1)
        nothing = patches.new_zeros(len(patches), 0, 12)
        return ImageFeatures(nothing, [patches] * len(layers), [nothing] * len(layers))

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([torch.randn(self.text_dim, generator=torch.Generator().manual_seed(len(text))) for text in texts])


def wide() -> WithText:
    return WithText(wide=True)


OWN = "tests.integration.test_zeroshot_runs:WithText"


@pytest.mark.parametrize(
    ("model", "protocol", "changes", "words"),
    [
        ("pixels", "tips-values", [], "encoder 'pixels' has no text tower, and the task compares images with text"),
        (OWN, "tips-slide", [], "'own' has no value path, which protocol tips-slide needs. Protocols that work: patch-text."),
        ("tests.integration.test_zeroshot_runs:wide", "patch-text", [], "'own' has 12 features per patch, but text embeddings have 13"),
        ("toy", "tips-values", ["probe.prompts=[a photo]"], "the prompt 'a photo' has no place for the name: put {} where it goes"),
        ("toy", "tips-values", ["probe.prompts=[]"], "there is no prompt"),
        ("toy", "tips-slide", ["probe.upsample=labels", "probe.softmax=null"], "does not work with sliding windows"),
        ("toy", "tips-values", ["inference.flip=true"], "uses each image at one scale"),
        ("toy", "tips-values", ["probe.type=convex"], "probe.type"),
        ("toy", "tips-values", ["features.layers=[0]"], "values: true needs layers: [-1]"),
        ("toy", "tips-values", ["task.options.names={ground: a, disc: b, bar: c}"], "options.names has 3 classes, and the labels have 4"),
        (
            "toy",
            "tips-values",
            ["task.options.names={ground: a, bar: b, disc: c, ring: d}"],
            "'bar' as class 1, and label id 1 means 'disc'",
        ),
        ("toy", "tips-values", ["task.options.names.ring=red disc"], "the name 'red disc' is given to 'disc' and to 'ring'"),
        ("toy", "tips-values", ["task.options.background=sky"], "background = 'sky' is none of the names' classes"),
        ("toy", "linear-tips", [], "is not allowed for this task"),
        ("toy", "sclip", [], "task shapes-zeroshot has no vocabulary 'sclip'"),
        ("toy", "sclip", ["probe.vocabulary=null"], "the attention of its last block cannot be chosen"),
        (
            "toy",
            "sclip",
            ["probe.vocabulary=null", "task.options.background=null", "probe.area_threshold=0.1"],
            "need a background, and the task has none",
        ),
        ("toy", "sclip", ["task.options.vocabularies={sclip: [a, b, c]}"], "has names for 3 classes, and there are 4"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence_before_any_work(
    shapes: Path, toy: str, model: str, protocol: str, changes: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(monkeypatch, 0)
    with pytest.raises(UserError) as error:
        evaluate("shapes-zeroshot", toy if model == "toy" else model, protocol, out=shapes / "out", overrides=changes)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not [path for path in (shapes / "out").rglob("*") if path.is_file()]


def test_an_encoder_of_the_users_own_with_text_does_the_protocol_on_patches(shapes: Path) -> None:
    assert evaluate("shapes-zeroshot", OWN, "patch-text", out=shapes / "out").metrics["mIoU"].n == 6


def test_another_encoders_similarities_are_the_last_blocks_attention(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(self: TransformersEncoder, texts: list[str]) -> torch.Tensor:
        return torch.stack([torch.randn(self.values_dim, generator=torch.Generator().manual_seed(len(text))) for text in texts])

    monkeypatch.setattr(TransformersEncoder, "encode_text", text)
    encoder = load_encoder(make_folder("clip", tmp_path / "clip"), device="cpu")
    changes = ["probe.vocabulary=null", "features.proxy.model=tips-tiny-random", "probe.prompts=['{}']"]
    changes += ["image.short_side=84", "inference.window=60", "inference.stride=42"]  # windows that neither patch size divides
    records = {
        gamma: evaluate("shapes-zeroshot", encoder, "proxyclip", out=shapes / gamma, overrides=[*changes, f"features.proxy.gamma={gamma}"])
        for gamma in ("3.0", "0.1")
    }
    assert all(record.metrics["mIoU"].n == 6 for record in records.values())
    assert records["3.0"].features_id != records["0.1"].features_id
    assert records["3.0"].cards["protocol"]["features"]["proxy"] == {"model": "tips-tiny-random", "beta": 1.2, "gamma": 3.0}


def test_the_command_line_says_it_on_one_line_and_exits_with_2(shapes: Path) -> None:
    found = CliRunner().invoke(app, ["run", "--task", "shapes-zeroshot", "--model", "pixels", "--out", str(shapes / "out")])
    assert found.exit_code == 2 and "has no text" in found.output
