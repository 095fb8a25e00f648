"""Whatever a user gives: one sentence, exit status 2, nothing half-written."""

import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.encoders.load import load_encoder
from tips_bench.features.extract import Extractor
from tips_bench.models.files.checkpoints import save_checkpoint

SMALL = ["--set", "image.short_side=84", "--set", "probe.max_patches=600"]


def run(*arguments, model="pixels", task="shapes", out="out"):
    """(exit status, standard error) of `tips-bench run`."""
    small = SMALL if task == "shapes" else []
    done = CliRunner().invoke(app, ["run", "--task", task, "--model", model, "--out", out, *small, *arguments])
    return done.exit_code, done.stderr


def refused(folder, *words, **options):
    """A run that must be refused in one sentence with these words, and leave no record."""
    arguments = options.pop("arguments", [])
    status, text = run(*arguments, **options)
    lines = [line for line in text.strip().splitlines() if not re.match(r"\[\d+/\d+\]", line)]
    assert status == 2, text
    assert len(lines) == 1 and "Traceback" not in text, text
    assert all(word in lines[0] for word in words), lines[0]
    assert not list(folder.rglob("*.tmp")) and not list(folder.rglob("*.samples.npz"))
    assert not [path for path in folder.rglob("out/**/*.json") if ".work" not in str(path)]  # what can be taken up may stay
    return lines[0]


def image(folder, split="val", name="003"):
    return folder / "data" / "shapes" / "images" / split / f"{name}.png"


def label(folder, split="val", name="003"):
    return folder / "data" / "shapes" / "labels" / split / f"{name}.png"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "shaps"}, ["no task named 'shaps'", "Did you mean 'shapes'"]),
        ({"model": "pixel"}, ["no model named 'pixel'", "Did you mean 'pixels'"]),
        ({"arguments": ["--protocol", "convexx"]}, ["no protocol named 'convexx'", "'convex'"]),
        ({"task": "ade20k", "arguments": ["--protocol", "convex-224"]}, ["not allowed for this task", "linear-dinov2"]),
        ({"arguments": ["--set", "nothing"]}, ["KEY=VALUE"]),
        ({"arguments": ["--set", "task.primary=mIuO"]}, ["primary: there is no metric named 'mIuO'", "Did you mean 'mIoU'"]),
        ({"arguments": ["--weights", "nowhere.npz"], "model": "tips-tiny-random"}, ["nowhere.npz"]),
        ({"arguments": ["--device", "tpu"]}, ["tpu"]),
        ({"task": "ade20k"}, ["ADEChallengeData2016", "tips-bench data download ade20k"]),
    ],
)
def test_names_and_options_that_are_wrong(shapes, options, words):
    refused(shapes, *words, **options)


def test_an_image_without_its_mask(shapes):
    label(shapes).unlink()
    refused(shapes, "003")


def test_a_mask_with_ids_outside_the_classes(shapes):
    ids = np.array(Image.open(label(shapes)))
    ids[5:9, 5:9] = 77
    Image.fromarray(ids).save(label(shapes))
    refused(shapes, "003.png", "77")


def test_a_mask_of_another_size(shapes):
    Image.fromarray(np.zeros((30, 31), np.uint8)).save(label(shapes, "train", "001"))
    refused(shapes, "001.png", "30")


def test_a_truncated_image_in_the_train_and_in_the_scored_split(shapes):
    for split in ("train", "val"):
        photo = image(shapes, split).with_suffix(".jpg")
        Image.open(image(shapes, split)).save(photo)
        image(shapes, split).unlink()
        whole = photo.read_bytes()
        photo.write_bytes(whole[: len(whole) // 2])
        refused(shapes, "003.jpg")
        photo.write_bytes(whole)


def test_a_16_bit_png_where_ids_are_meant(shapes):
    ids = np.array(Image.open(label(shapes))).astype(np.uint16)
    Image.fromarray(ids).save(label(shapes))
    refused(shapes, "003.png", "16-bit")


def test_a_palette_png_is_read_as_ids(shapes):
    status, text = run(out="plain")
    assert status == 0, text
    for name in label(shapes).parent.iterdir():
        picture = Image.open(name).convert("P")
        picture.putdata(Image.open(name).tobytes())
        picture.putpalette([value for _ in range(256) for value in (9, 9, 9)])
        picture.save(name)
    assert run(out="palette")[0] == 0
    plain, palette = (np.load(next((shapes / out).rglob("*.samples.npz")))["counts"] for out in ("plain", "palette"))
    assert np.array_equal(plain, palette)


def test_an_image_of_one_pixel_is_scored(shapes):
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(image(shapes))
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(label(shapes))
    status, text = run()
    assert status == 0, text


def test_labels_that_show_nothing_or_one_class(shapes):
    for path in label(shapes, "train").parent.iterdir():
        Image.fromarray(np.full(np.array(Image.open(path)).shape, 255, np.uint8)).save(path)
    refused(shapes, "0 class(es)")


def test_roots_that_are_missing_empty_or_of_another_set(shapes):
    root = shapes / "data" / "shapes"
    shutil.move(root, shapes / "elsewhere")
    refused(shapes, "no such folder", "classes.json")
    root.mkdir()
    refused(shapes, "shapes")
    (root / "JPEGImages").mkdir()
    refused(shapes, "shapes")


def test_weights_with_nan_and_of_another_size(shapes):
    tower = load_encoder("tips-tiny-random").tower
    tower.unpack()
    with torch.no_grad():
        tower.norm.weight[3] = float("nan")
    save_checkpoint(shapes / "nan.safetensors", vision=tower)
    refused(shapes, "nan.safetensors", "NaN", model="tips-tiny-random", arguments=["--weights", "nan.safetensors"])
    save_checkpoint(shapes / "tiny.safetensors", vision=load_encoder("tips-tiny-random", "random:3").tower)
    refused(shapes, "tiny.safetensors", model="tips-b14", arguments=["--weights", "tiny.safetensors"])


def test_a_path_that_is_too_long_for_the_system(shapes):
    refused(shapes, "File name too long", out="x" * 300)


def test_an_output_folder_that_takes_no_file(shapes):
    (shapes / "out").write_text("a file, not a folder")
    refused(shapes, "cannot write")


def test_a_full_disk_is_said_before_the_work_is_done(shapes, monkeypatch):
    monkeypatch.setattr("tips_bench.features.store.free_bytes", lambda folder: 1000)
    monkeypatch.setattr(Extractor, "encode", lambda *_: pytest.fail("the encoder was used"))
    refused(shapes, "GB, and the disk has 0.00 GB free")


def test_memory_that_does_not_suffice_is_said_with_what_to_try(shapes, monkeypatch):
    def full(self, pixels):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "encode", full)
        refused(shapes, "cpu does not have enough memory", "Try --batch-size 4 or --dtype bf16 or", arguments=["--batch-size", "8"])
        refused(shapes, "Try another --device. The run", arguments=["--batch-size", "1", "--dtype", "bf16"])
    assert run()[0] == 0


def test_a_disk_that_fills_while_the_record_is_written_leaves_no_record(shapes, monkeypatch):
    monkeypatch.chdir(shapes)
    replace = os.replace

    def full(source, target):
        if str(target).endswith(".samples.npz"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    refused(shapes, "No space left on device", "samples.npz")


def test_an_encoder_whose_features_are_not_finite_gives_no_score(shapes):
    (shapes / "broken.py").write_text("def build():\n    return lambda pixels: pixels[:, :, ::14, ::14] / 0\n")
    refused(shapes, "not finite", model="broken:build")
