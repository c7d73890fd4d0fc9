"""Weights of networks on disk: foreign safetensors read by a name map, and export to ONNX.

Needs torch, so only training and export import it; the application runs the exported files through `retriever.runtime`.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retriever.errors import ModelFilesMissing
from retriever.nets.text_encoder import TextEncoder

# Hugging Face's BERT names -> ours; the pooler feeds next-sentence prediction and position_ids counts 0, 1, 2, so neither is read.
BERT_NAMES: Mapping[str, str] = {
    r"embeddings\.word_embeddings\.": "embeddings.token.",
    r"embeddings\.position_embeddings\.": "embeddings.position.",
    r"embeddings\.token_type_embeddings\.": "embeddings.token_type.",
    r"embeddings\.LayerNorm\.": "embeddings.norm.",
    r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.": r"layers.\1.attention.\2.",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.out.",
    r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.": r"layers.\1.attention_norm.",
    r"encoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.widen.",
    r"encoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.narrow.",
    r"encoder\.layer\.(\d+)\.output\.LayerNorm\.": r"layers.\1.feed_forward_norm.",
}
BERT_UNUSED: Sequence[str] = (r"pooler\.dense\.", r"embeddings\.position_ids$")


def save_weights(net: nn.Module, path: Path) -> None:
    """Write the network's tensors under their own names."""
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, path)


def load_weights(net: nn.Module, path: Path, names: Mapping[str, str] | None = None, unused: Sequence[str] = ()) -> None:
    """Fill the network with the tensors of a safetensors file; all or nothing.

    Args:
        net: gets the values, converted to its own types.
        path: the file.
        names: regular expressions matched at the beginning of a foreign name -> replacement; None where the names are ours.
        unused: regular expressions of foreign tensors that are not wanted.

    Raises:
        ModelFilesMissing: the file is absent or no safetensors, or a tensor is missing, left over or of another shape.
    """
    wanted = net.state_dict()
    found = rename(_read(path), names, unused)
    problems = _differences(wanted, found)
    if problems:
        raise ModelFilesMissing(f"{path} does not fit this network: {'; '.join(problems)}. Give the weights the network was made for")
    net.load_state_dict(found)


def rename(tensors: Mapping[str, Tensor], names: Mapping[str, str] | None, unused: Sequence[str] = ()) -> dict[str, Tensor]:
    """Return the tensors under our names, without the unused ones; a name that no pattern matches stays as it is."""
    kept = {name: tensor for name, tensor in tensors.items() if not any(re.match(pattern, name) for pattern in unused)}
    if names is None:
        return kept
    return {_renamed(name, names): tensor for name, tensor in kept.items()}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for pattern, replacement in names.items():
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFilesMissing(f"{path} cannot be read as safetensors ({error}); download or export the weights again") from error


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    problems = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"unexpected {name}" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, wanted {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name].shape != found[name].shape
    ]
    return problems


def export_text_encoder(net: TextEncoder, path: Path) -> None:
    """Write a `TextEncoder` as ONNX, sentences and tokens of any number.

    Inputs `token_ids` int64 (B, N) and `token_mask` bool (B, N); outputs `vectors` float32 (B, D) of length 1 and `states` float32
    (B, N, D). Who asks for one output does not pay for the other.
    """
    # Sizes of the example must differ from each other and from 1, else the exporter takes them for constants.
    example = (torch.zeros((3, 7), dtype=torch.int64), torch.ones((3, 7), dtype=torch.bool))
    batch, length = torch.export.Dim("B"), torch.export.Dim("N", min=2, max=net.config.max_positions)
    with warnings.catch_warnings():  # the exporter warns of its own insides and that both inputs share B and N
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            example,
            path,
            input_names=["token_ids", "token_mask"],
            output_names=["vectors", "states"],
            dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
