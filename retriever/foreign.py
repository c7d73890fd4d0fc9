"""Reads the published weights that CLSR starts from: FunASR's Paraformer with its normalisation, and BERT-like text encoders.

Needs torch, so only training imports it. `checkpoint` holds the names of BERT.

Shapes: F values of a stacked frame.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import torch
from torch import Tensor

from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, load_weights, rename
from retriever.errors import ModelFilesMissing
from retriever.nets.clsr import WordPieceClsr

# FunASR's names -> ours. Its first encoder block stands apart; `_ENCODER_BLOCK` counts the others on.
PARAFORMER_NAMES: Final[Mapping[str, str]] = {
    r"encoder\.(blocks\.\d+)\.norm1\.": r"encoder.\1.attention_norm.",
    r"encoder\.(blocks\.\d+)\.norm2\.": r"encoder.\1.feed_forward_norm.",
    r"encoder\.(blocks\.\d+)\.self_attn\.linear_q_k_v\.": r"encoder.\1.attention.query_key_value.",
    r"encoder\.(blocks\.\d+)\.self_attn\.linear_out\.": r"encoder.\1.attention.out.",
    r"encoder\.(blocks\.\d+)\.self_attn\.fsmn_block\.": r"encoder.\1.attention.memory.taps.",
    r"encoder\.(blocks\.\d+)\.feed_forward\.w_1\.": r"encoder.\1.feed_forward.widen.",
    r"encoder\.(blocks\.\d+)\.feed_forward\.w_2\.": r"encoder.\1.feed_forward.narrow.",
    r"encoder\.after_norm\.": "encoder.norm.",
    r"decoder\.decoders\.(\d+)\.norm1\.": r"decoder.blocks.\1.feed_forward_norm.",
    r"decoder\.decoders\.(\d+)\.norm2\.": r"decoder.blocks.\1.memory_norm.",
    r"decoder\.decoders\.(\d+)\.norm3\.": r"decoder.blocks.\1.attention_norm.",
    r"decoder\.decoders\.(\d+)\.self_attn\.fsmn_block\.": r"decoder.blocks.\1.memory.taps.",
    r"decoder\.decoders\.(\d+)\.src_attn\.linear_q\.": r"decoder.blocks.\1.attention.query.",
    r"decoder\.decoders\.(\d+)\.src_attn\.linear_k_v\.": r"decoder.blocks.\1.attention.key_value.",
    r"decoder\.decoders\.(\d+)\.src_attn\.linear_out\.": r"decoder.blocks.\1.attention.out.",
    r"decoder\.decoders\.(\d+)\.feed_forward\.w_1\.": r"decoder.blocks.\1.feed_forward.widen.",
    r"decoder\.decoders\.(\d+)\.feed_forward\.w_2\.": r"decoder.blocks.\1.feed_forward.narrow.",
    r"decoder\.decoders\.(\d+)\.feed_forward\.norm\.": r"decoder.blocks.\1.feed_forward.norm.",
    r"decoder\.decoders3\.0\.norm1\.": "decoder.tail.feed_forward_norm.",
    r"decoder\.decoders3\.0\.feed_forward\.w_1\.": "decoder.tail.feed_forward.widen.",
    r"decoder\.decoders3\.0\.feed_forward\.w_2\.": "decoder.tail.feed_forward.narrow.",
    r"decoder\.decoders3\.0\.feed_forward\.norm\.": "decoder.tail.feed_forward.norm.",
    r"decoder\.after_norm\.": "decoder.norm.",
    r"predictor\.cif_conv1d\.": "predictor.conv.",
    r"predictor\.cif_output\.": "predictor.output.",
}
# Of another vocabulary than the text encoder's: the output layer is new, and the decoder's input table is not used at all.
PARAFORMER_UNUSED: Final = (r"decoder\.embed\.", r"decoder\.output_layer\.")
OURS_ALONE: Final = ("frontend.", "output.", "text_encoder.")
_ENCODER_BLOCK: Final = re.compile(r"encoder\.encoders(0?)\.(\d+)\.")


@dataclass(frozen=True, slots=True, eq=False)
class Cmvn:
    """What is added to each value of a stacked frame, and what the sum is multiplied by: (F,) each."""

    shift: Tensor
    scale: Tensor


def load_published(net: WordPieceClsr, paraformer: Path, cmvn: Path, text_encoder: Path) -> None:
    """Fill the published form with published weights; its output layer stays as it is.

    Args:
        net: of the same sizes.
        paraformer: FunASR's `model.pt`.
        cmvn: its `am.mvn`.
        text_encoder: `model.safetensors` of a BERT such as BGE.

    Raises:
        ModelFilesMissing: a file is absent, unreadable or of another size.
    """
    normalisation = read_cmvn(cmvn)
    if normalisation.shift.shape != net.frontend.shift.shape:
        raise ModelFilesMissing(f"{cmvn} normalises {len(normalisation.shift)} values, the frontend gives {len(net.frontend.shift)}")
    load_paraformer(net, paraformer)
    load_weights(net.text_encoder, text_encoder, BERT_NAMES, BERT_UNUSED)
    net.frontend.set_cmvn(normalisation.shift, normalisation.scale)


def load_paraformer(net: WordPieceClsr, path: Path) -> None:
    """Fill encoder, predictor and decoder from FunASR's `model.pt`; all or nothing.

    Raises:
        ModelFilesMissing: the file is unreadable, or a tensor is missing, left over or of another shape.
    """
    found = paraformer_tensors(_read(path))
    wanted = {name: value for name, value in net.state_dict().items() if not name.startswith(OURS_ALONE)}
    problems = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"unexpected {name}" for name in sorted(found.keys() - wanted.keys())]
    both = sorted(wanted.keys() & found.keys())
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, wanted {tuple(wanted[name].shape)}"
        for name in both
        if found[name].shape != wanted[name].shape
    ]
    if problems:
        raise ModelFilesMissing(f"{path} does not fit this network: {'; '.join(problems)}. Give the Paraformer of the network's size")
    net.load_state_dict(found, strict=False)


def paraformer_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a Paraformer's tensors under our names, without its output layer and input table."""
    return rename({_ENCODER_BLOCK.sub(_counted_on, name): value for name, value in tensors.items()}, PARAFORMER_NAMES, PARAFORMER_UNUSED)


def read_cmvn(path: Path) -> Cmvn:
    """Read Kaldi's text form of a normalisation, as FunASR's `am.mvn` has it: `<AddShift>`, then `<Rescale>`.

    Raises:
        ModelFilesMissing: the file is absent, or has not both, of the same length.
    """
    try:
        text = path.read_text(encoding="utf-8")
        shift, scale = (
            torch.tensor([float(value) for value in text.split(f"<{part}>")[1].split("[", 1)[1].split("]", 1)[0].split()])
            for part in ("AddShift", "Rescale")
        )
    except (OSError, ValueError, IndexError) as error:
        raise ModelFilesMissing(f"{path} gives no <AddShift> and <Rescale> ({error!r}); give FunASR's am.mvn") from error
    if shift.shape != scale.shape or not len(shift):
        raise ModelFilesMissing(f"{path} adds to {len(shift)} values and scales {len(scale)}; give FunASR's am.mvn as it was published")
    return Cmvn(shift, scale)


def _counted_on(match: re.Match[str]) -> str:
    return f"encoder.blocks.{0 if match[1] else int(match[2]) + 1}."


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        raise ModelFilesMissing(f"{path} cannot be read as torch weights ({error}); download it again") from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ModelFilesMissing(f"{path} holds no table of tensors; give FunASR's model.pt")
    return tensors
