"""Turns a trained reader into the int8 files that ship: `python -m generator.training.reader_export --help`.

The token table is left out: the shipped text encoder's is read at run time.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from tokenizers import Tokenizer
from torch import Tensor, nn

from generator.nets.reader import Reader
from generator.reading import READER, WordScores
from generator.token_table import read_token_table
from generator.windows import WordPieces, windows
from retriever.nets.text_encoder import TextEncoderConfig
from retriever.runtime import ShippedModel, sha256
from retriever.sentence_encoder import MINILM

GROUP: Final = 64  # rows of a matrix that share a scale in a column
MAX_TOKENS: Final = 256  # of a window; passages in training had up to 150


class FromRows(nn.Module):
    """The reader without its token table, in the form that is exported."""

    def __init__(self, net: Reader) -> None:
        super().__init__()
        self.net = net

    def forward(self, rows: Tensor, token_mask: Tensor, token_types: Tensor) -> Tensor:
        """Return (B, N, 2) of rows (B, N, D)."""
        return self.net.score_rows(rows, token_mask, token_types)


class TorchNet:
    """The network in torch behind the run time's interface: measures a checkpoint before it is exported.

    Args:
        net: trained.
        pieces: of words.
    """

    def __init__(self, net: Reader, pieces: WordPieces) -> None:
        self._net = net.eval()
        self._pieces = pieces
        self.max_tokens = MAX_TOKENS
        self.name = "torch"

    def num_tokens(self, words: Sequence[str]) -> int:
        """Return how many tokens words have."""
        return self._pieces.count(words)

    def read(self, question: Sequence[str], passage: Sequence[str]) -> list[WordScores]:
        """Return the scores of each window."""
        scored = []
        for window in windows(self._pieces, question, passage, self.max_tokens):
            token_ids = torch.tensor([window.token_ids])
            with torch.no_grad():
                scores = self._net(token_ids, torch.ones_like(token_ids, dtype=torch.bool), torch.tensor([window.token_types]))[0]
            starts, ends = (scores[list(places), edge].numpy() for edge, places in enumerate((window.starts, window.ends)))
            scored.append(WordScores(window.first_word, starts.astype(np.float32), ends.astype(np.float32)))
        return scored


def read_checkpoint(path: Path, config: TextEncoderConfig | None = None) -> Reader:
    """Return the reader that `reader_train` saved."""
    net = Reader(config or TextEncoderConfig())
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["net"])
    return net.eval()


def shipped_pieces() -> WordPieces:
    """Return the text encoder's tokeniser."""
    return WordPieces(Tokenizer.from_file(str(ShippedModel.read(MINILM).verified("tokenizer.json"))))


def write_onnx(net: Reader, path: Path) -> None:
    """Write the network without its token table as ONNX, windows and tokens of any number."""
    config, position = net.encoder.config, net.encoder.embeddings.position
    position.weight = nn.Parameter(position.weight[:MAX_TOKENS].detach())  # no window is longer
    shape = (3, 7)  # sizes of the example must differ from each other and from 1, else the exporter takes them for constants
    example = (torch.zeros((*shape, config.dimension)), torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.int64))
    batch, length = torch.export.Dim("B"), torch.export.Dim("N", min=2, max=len(position.weight))
    with warnings.catch_warnings():  # the exporter warns of its own insides and that the inputs share B and N
        warnings.simplefilter("ignore")
        torch.onnx.export(
            FromRows(net.eval()),
            example,
            path,
            input_names=["rows", "token_mask", "token_types"],
            output_names=["scores"],
            dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}, {0: batch, 1: length}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def write_int8(net: Reader, out: Path) -> None:
    """Write the network with int8 weights, which become floats again when the file is loaded.

    With int8 activations too, and the 7 bits of weights that those need on processors without VNNI, development F1 fell by 2 to 4 points.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(net, Path(folder) / "float.onnx")
        model = onnx.load(Path(folder) / "float.onnx")
    store_as_int8(model)
    onnx.checker.check_model(model)
    onnx.save(model, out)


def store_as_int8(model: onnx.ModelProto) -> None:
    """Replace the matrices (K, N) of an ONNX network by int8 values and a scale for each `GROUP` rows of each column."""
    graph = model.graph
    factors = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    added = []
    for weight in [one for one in graph.initializer if one.name in factors and len(one.dims) == 2 and one.dims[0] % GROUP == 0]:
        values, name = numpy_helper.to_array(weight), weight.name
        grouped = values.reshape(-1, GROUP, values.shape[1])  # (K / GROUP, GROUP, N)
        scale = np.maximum(np.abs(grouped).max(axis=1, keepdims=True) / 127, 1e-6).astype(np.float16)
        whole = np.clip(np.round(grouped / scale.astype(np.float32)), -127, 127).astype(np.int8)
        graph.initializer.remove(weight)
        parts = {"int8": whole, "scale": scale, "shape": np.array(values.shape, np.int64)}
        graph.initializer.extend(numpy_helper.from_array(part, f"{name}.{suffix}") for suffix, part in parts.items())
        added += [
            helper.make_node("Cast", [f"{name}.{suffix}"], [f"{name}.{suffix}.float"], to=onnx.TensorProto.FLOAT)
            for suffix in ("int8", "scale")
        ]
        added.append(helper.make_node("Mul", [f"{name}.int8.float", f"{name}.scale.float"], [f"{name}.grouped"]))
        added.append(helper.make_node("Reshape", [f"{name}.grouped", f"{name}.shape"], [name]))
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def export(net: Reader, out: Path, name: str, text_encoder: Path = MINILM) -> None:
    """Write model.onnx and config.json to a folder.

    Args:
        net: trained with the text encoder's token table.
        out: the folder.
        name: of this training.
        text_encoder: the shipped one whose token table is used at run time.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_int8(net, out / "model.onnx")
    table = read_token_table(ShippedModel.read(text_encoder).verified("model.onnx"))
    config = {
        "name": name,
        "max_tokens": MAX_TOKENS,
        "token_table_sha256": table.digest,
        "files": {"model.onnx": sha256(out / "model.onnx")},
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="last.pt of generator.training.reader_train")
    parser.add_argument("--out", type=Path, default=READER)
    parser.add_argument("--name", default="reader-en")
    arguments = parser.parse_args()
    export(read_checkpoint(arguments.checkpoint), arguments.out, arguments.name)


if __name__ == "__main__":
    main()
