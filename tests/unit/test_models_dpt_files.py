"""What a file of a DPT head may get wrong, each told in one sentence that names the file and the key."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from tests.helpers.dpt_heads import flax_arrays, random_head, torch_arrays, write_head
from tips_bench.errors import UserError
from tips_bench.models.files.dpt_heads import load_dpt

OUT = "dpt.fusion_blocks.3.out_conv.weight"


def save(path, arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def refused(path, kind="depth", **options):
    with pytest.raises(UserError) as caught:
        load_dpt(path, kind, **{"embed_dim": 32, **options})
    assert str(path) in str(caught.value.where) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["torch", "flax"])
def arrays(request):
    head = random_head("depth")
    return torch_arrays(head, "depth") if request.param == "torch" else flax_arrays(head, "depth")


def test_a_missing_tensor_is_named(tmp_path, arrays):
    key = next(name for name in arrays if "Conv_0/kernel" in name or name == OUT)
    del arrays[key]
    message = refused(save(tmp_path / "h.npz", arrays))
    assert key in message and "missing: 1 of the 52" in message


def test_a_tensor_of_another_shape_is_named(tmp_path, arrays):
    key = next(name for name in arrays if "convs_2/kernel" in name or name == "dpt.convs.2.weight")
    arrays[key] = arrays[key][..., :1]
    assert key in (message := refused(save(tmp_path / "h.npz", arrays))) and "is expected" in message


def test_a_tensor_too_many_is_named(tmp_path, arrays):
    message = refused(save(tmp_path / "h.npz", arrays | {"decoder/other/kernel": np.zeros(3, np.float32)}))
    assert "decoder/other/kernel" in message and "unexpected: 1" in message


def test_a_value_that_is_not_finite_is_named(tmp_path, arrays):
    key = next(name for name in arrays if name.endswith("project/bias") or name == "dpt.project.bias")
    arrays[key] = np.full_like(arrays[key], np.nan)
    assert key in (message := refused(save(tmp_path / "h.npz", arrays))) and "NaN" in message


def test_the_tensors_that_tell_the_size_are_named_when_absent(tmp_path, arrays):
    key = next(name for name in arrays if "readout_projects_0/kernel" in name or name == "dpt.reassemble.readout_projects.0.weight")
    del arrays[key]
    assert key in refused(save(tmp_path / "h.npz", arrays))


def test_a_head_for_another_tower_is_refused(tmp_path, arrays):
    assert "32 features a patch, this one has 768" in refused(save(tmp_path / "h.npz", arrays), embed_dim=768)


@pytest.mark.parametrize("layout", ["torch", "flax", "hub"])
def test_the_head_of_another_kind_is_refused(tmp_path, layout):
    path = write_head(tmp_path / "head.bin", random_head("depth"), "depth", layout)
    assert "depth" in refused(path, "normals")
    path = write_head(tmp_path / "other.bin", random_head("segmentation"), "segmentation", layout)
    assert "depth" in refused(path, "depth")


def test_other_bins_are_refused(tmp_path):
    path = write_head(tmp_path / "head.npz", random_head("depth"), "depth", "torch")
    assert "16 even steps from 0.001 to 80 m" in refused(path, depths=(0.001, 80.0))


def test_a_file_of_something_else_is_refused(tmp_path):
    assert "no DPT head for depth" in refused(save(tmp_path / "h.npz", {"weight": np.zeros((2, 2), np.float32)}))


def test_a_file_of_the_old_converter_whose_kernels_are_not_turned_is_refused(tmp_path):
    arrays = {name.removeprefix("dpt."): array for name, array in torch_arrays(random_head("segmentation"), "segmentation").items()}
    arrays = {name.replace("head.", "segmentation_head.") if name.startswith("head.") else name: array for name, array in arrays.items()}
    assert "no DPT head for segmentation" in refused(save(tmp_path / "h.npz", arrays), "segmentation")


def test_a_zip_that_lists_its_folders_is_read(tmp_path):
    arrays, path = flax_arrays(random_head("normals"), "normals"), tmp_path / "head.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("decoder/", b"")
        archive.writestr("decoder/dpt/", b"")
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    assert load_dpt(path, "normals", embed_dim=32).config.outputs == 3
