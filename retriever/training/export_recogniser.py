"""Turns a trained recogniser into the int8 network that ships: `python -m retriever.training.export_recogniser --help`.

The checkpoint is a folder as the recogniser's training leaves it: `state.json`, whose `config` gives the size, and the averaged weights in
`average.safetensors` (else `net.safetensors`). Products with weights become int8, one scale for each output channel; convolutions, norms
and the products of the attention stay float. Activations are scaled while it runs, by the largest of what is given at once.

Shapes: B utterances, U frames of 60 ms, F values of a frame, P phones and blank.
"""

import argparse
import json
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from retriever.acoustic import INPUTS, NETWORK, OUTPUTS
from retriever.checkpoint import load_weights
from retriever.errors import ModelFilesMissing
from retriever.nets.recogniser import Recogniser, read_config
from retriever.runtime import Session

STATE: Final = "state.json"
WEIGHTS: Final = ("average.safetensors", "net.safetensors")  # the first that is there
MAX_FRAMES: Final = 5_000  # of one sound: five minutes


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the exported network is from torch, in log-probabilities of the same sounds."""

    num_frames: int
    largest: float
    mean: float
    same_best: float  # share of frames whose best phone is the same


def weights_of(folder: Path) -> Path:
    """Return a checkpoint's averaged weights, else its last ones.

    Raises:
        ModelFilesMissing: there is neither.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ModelFilesMissing(f"{folder} holds neither of {', '.join(WEIGHTS)}; name a folder that this network's training left")


class _LogProbs(nn.Module):
    def __init__(self, net: Recogniser) -> None:
        super().__init__()
        self.net = net

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        log_probs: Tensor = self.net.from_stacked(frames, frame_mask).log_probs
        return log_probs


def load_recogniser(folder: Path) -> Recogniser:
    """Return the trained network in evaluation mode.

    Raises:
        ModelFilesMissing: the folder is no checkpoint, or its weights are of another size.
    """
    path = folder / STATE
    try:
        config = read_config(json.loads(path.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFilesMissing(
            f"{path} does not say how large the recogniser is ({error!r}); give a folder that its training left"
        ) from error
    net = Recogniser(config)
    load_weights(net, weights_of(folder))
    return net.eval()


def export_float(net: Recogniser, path: Path) -> None:
    """Write the network as ONNX: `frames` (B, U, F), not normalised, and `frame_mask` (B, U) in, `log_probs` (B, O x U, P) out."""
    config = net.config.frontend
    # Sizes of the example must differ from each other and from 1, else the exporter takes them for constants.
    example = (torch.zeros(3, 11, config.dimension), torch.ones((3, 11), dtype=torch.bool))
    size, length = torch.export.Dim("B"), torch.export.Dim("U", min=1, max=MAX_FRAMES)
    with warnings.catch_warnings():  # the exporter warns of its own insides and that both inputs share B and U
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LogProbs(net).eval(),
            example,
            path,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: size, 1: length}, {0: size, 1: length}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def export(net: Recogniser, path: Path) -> None:
    """Write the network as ONNX with int8 weights."""
    with tempfile.TemporaryDirectory() as folder:
        export_float(net, Path(folder) / "float.onnx")
        quantise(Path(folder) / "float.onnx", path)


def quantise(whole: Path, path: Path) -> None:
    """Write an ONNX network of floats with int8 weights."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        quant_pre_process(str(whole), str(plain), skip_symbolic_shape=True)
        quantize_dynamic(
            plain,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,  # 7 bits: processors without VNNI add pairs in 16 bits, which 8 bits overflow
            extra_options={"MatMulConstBOnly": True},
        )


def float_weights(path: Path) -> dict[str, int]:
    """Return the number of values of each weight of an ONNX file that is not an integer, by name."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    weights = onnx.load(path).graph.initializer
    return {weight.name: int(np.prod(weight.dims)) for weight in weights if weight.data_type in floats}


@torch.no_grad()
def difference(net: Recogniser, path: Path, frames: Tensor) -> Difference:
    """Compare an exported network with torch on sounds (B, U, F), one after another, as they are run."""
    session = Session.of_file(path)
    largest, total, same = 0.0, 0.0, 0
    for one in torch.split(frames, 1):
        mask = torch.ones(one.shape[:2], dtype=torch.bool)
        expected = net.from_stacked(one, mask).log_probs.numpy()
        (found,) = session.run(dict(zip(INPUTS, (one.numpy(), mask.numpy()), strict=True)), OUTPUTS)
        distance = np.abs(found - expected)
        largest, total = max(largest, float(distance.max())), total + float(distance.mean(axis=-1).sum())
        same += int((found.argmax(axis=-1) == expected.argmax(axis=-1)).sum())
    num_frames = frames.shape[0] * frames.shape[1] * net.config.outputs_per_frame
    return Difference(num_frames, largest, total / num_frames, same / num_frames)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder that the recogniser's training left")
    parser.add_argument("--out", type=Path, required=True, help=f"folder that gets {NETWORK}")
    parser.add_argument("--seed", type=int, default=0, help="of the made-up frames that are compared")
    arguments = parser.parse_args()
    net = load_recogniser(arguments.checkpoint)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / NETWORK
    export(net, path)
    generator = torch.Generator().manual_seed(arguments.seed)
    spread, mean = net.frontend.scale.reciprocal(), -net.frontend.shift
    frames = torch.randn(4, 200, net.config.frontend.dimension, generator=generator) * spread + mean
    num_floats = sum(float_weights(path).values())
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes, {num_floats} values left float\n{difference(net, path, frames)}\n")


if __name__ == "__main__":
    main()
