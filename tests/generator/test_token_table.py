"""The token table read out of the shipped text encoder is the one that the `onnx` package finds there."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from generator.token_table import TABLE, read_token_table
from retriever.errors import ModelFilesMissing
from retriever.runtime import ShippedModel
from retriever.sentence_encoder import MINILM


def write_model(path, tensors):
    graph = helper.make_graph([], "g", [], [], initializer=tensors)
    onnx.save(helper.make_model(graph), str(path))


def make_parts(rows, scale=0.5, zero=3, name=TABLE):
    return [
        numpy_helper.from_array(np.array(scale, np.float32), f"{name}_scale"),
        numpy_helper.from_array(np.array(zero, rows.dtype), f"{name}_zero_point"),
        numpy_helper.from_array(rows, f"{name}_quantized"),
    ]


def test_the_shipped_table_is_what_onnx_reads():
    path = ShippedModel.read(MINILM).verified("model.onnx")
    tensors = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer if tensor.name.startswith(TABLE)
    }
    scale, zero = (float(tensors[f"{TABLE}_{part}"]) for part in ("scale", "zero_point"))
    table, ids = read_token_table(path), np.array([[0, 101, 30_521]])
    wanted = (tensors[f"{TABLE}_quantized"][ids].astype(np.float32) - zero) * scale
    np.testing.assert_allclose(table(ids), wanted, rtol=1e-6)
    assert table(ids).dtype == np.float32


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_rows_are_scaled_from_their_zero(tmp_path, kind):
    rows = np.arange(6, dtype=kind).reshape(2, 3)
    write_model(tmp_path / "m.onnx", make_parts(rows))
    table = read_token_table(tmp_path / "m.onnx")
    np.testing.assert_allclose(table(np.array([1, 0])), [[0.0, 0.5, 1.0], [-1.5, -1.0, -0.5]])


def test_scalars_kept_as_typed_data_are_read_too(tmp_path):
    rows = np.arange(4, dtype=np.uint8).reshape(2, 2)
    parts = [
        helper.make_tensor(f"{TABLE}_scale", TensorProto.FLOAT, [], [0.25]),
        helper.make_tensor(f"{TABLE}_zero_point", TensorProto.UINT8, [], [200]),
        helper.make_tensor(f"{TABLE}_quantized", TensorProto.UINT8, [2, 2], rows.ravel().tolist()),
    ]
    write_model(tmp_path / "m.onnx", parts)
    table = read_token_table(tmp_path / "m.onnx")
    assert (table.scale, table.zero) == (0.25, 200)
    np.testing.assert_array_equal(table.rows, rows)


def test_another_table_has_another_digest(tmp_path):
    rows = np.arange(6, dtype=np.uint8).reshape(2, 3)
    digests = set()
    for number, parts in enumerate((make_parts(rows), make_parts(rows + 1), make_parts(rows, scale=0.6), make_parts(rows, zero=4))):
        write_model(tmp_path / f"{number}.onnx", parts)
        digests.add(read_token_table(tmp_path / f"{number}.onnx").digest)
    assert len(digests) == 4


@pytest.mark.parametrize("damage", ["other", "empty", "cut", "noise"])
def test_a_file_without_the_table_is_refused(tmp_path, damage):
    path = tmp_path / "m.onnx"
    write_model(path, make_parts(np.arange(6, dtype=np.uint8).reshape(2, 3), name="other" if damage == "other" else TABLE))
    if damage != "other":
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-9], "noise": bytes(range(255, 0, -1))}[damage])
    with pytest.raises(ModelFilesMissing, match="table"):
        read_token_table(path)
