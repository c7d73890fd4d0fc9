"""Turns MiniLM's weights into the int8 files that ship: `python -m retriever.training.export_text_encoder --help`.

Published weights, or those between them and the tuned ones (`retriever.training.text_encoder`). Run once for each release of the weights;
the result is committed.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from tokenizers import Tokenizer

from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, export_text_encoder, load_weights
from retriever.errors import ModelFilesMissing
from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig
from retriever.runtime import sha256
from retriever.sentence_encoder import SentenceEncoder
from retriever.training.text_encoder import interpolate

MINILM_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of all-MiniLM-L6-v2's model.safetensors
MAX_TOKENS: Final = 256  # the publisher's limit; the network itself has 512 positions

NOTICE: Final = """\
This folder holds a converted copy of all-MiniLM-L6-v2.

all-MiniLM-L6-v2
  by the sentence-transformers project, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
  Licensed under the Apache License, Version 2.0.
  Fine-tuned from nreimers/MiniLM-L6-H384-uncased, every second layer of Microsoft's MiniLM-L12-H384-uncased
  (https://github.com/microsoft/unilm/tree/master/minilm, MIT License, Copyright (c) Microsoft Corporation).

Changes: {changes}exported to ONNX, weights and token table quantised to int8; truncation and padding removed from tokenizer.json.
The licence text is in LICENSE at the root of this project.
"""

TUNED_CHANGES: Final = """\
trained further on questions with the passages that answer them (MODEL_CARD.md names the data sets, their authors and licences;
several are under CC BY-SA: https://creativecommons.org/licenses/by-sa/4.0/ and /3.0/); """


@dataclass(frozen=True, slots=True)
class Closeness:
    """How near the vectors of the shipped files are to those of the weights they were made from."""

    num_texts: int
    mean_cosine: float
    lowest_cosine: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """Weights trained further, and how far to go from the published ones to them."""

    weights: Path
    share: float


def export(weights: Path, tokenizer: Path, out: Path, tuned: Tuned | None = None) -> None:
    """Write model.onnx, tokenizer.json, config.json and NOTICE to a folder.

    Raises:
        ModelFilesMissing: the weights are not the published ones, or the tuned ones are of another network.
    """
    net = load(weights, tuned)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        quantise(net, Path(folder), out / "model.onnx")
    plain = Tokenizer.from_file(str(tokenizer))
    plain.no_truncation()  # long texts are read in windows, nothing is cut
    plain.no_padding()
    plain.save(str(out / "tokenizer.json"), pretty=False)
    config = {
        "name": "all-MiniLM-L6-v2, tuned for lectures" if tuned else "all-MiniLM-L6-v2",
        "dimension": net.config.dimension,
        "max_tokens": MAX_TOKENS,
        "source_sha256": MINILM_SHA256,
        **({"tuned_sha256": sha256(tuned.weights), "tuned_share": tuned.share} if tuned else {}),
        "files": {name: sha256(out / name) for name in ("model.onnx", "tokenizer.json")},
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "NOTICE").write_text(NOTICE.format(changes=TUNED_CHANGES if tuned else ""), encoding="utf-8")


def load(weights: Path, tuned: Tuned | None) -> TextEncoder:
    """Return the network to export.

    Raises:
        ModelFilesMissing: the weights are not the published ones, or the tuned ones are of another network.
    """
    published = load_published(weights)
    return interpolate(published, tuned.weights, tuned.share) if tuned else published


def load_published(weights: Path) -> TextEncoder:
    """Return the network with the published weights.

    Raises:
        ModelFilesMissing: the file is not the one that was published.
    """
    found = sha256(weights)
    if found != MINILM_SHA256:
        raise ModelFilesMissing(f"{weights} has SHA-256 {found}, all-MiniLM-L6-v2 has {MINILM_SHA256}; give its model.safetensors")
    net = TextEncoder(TextEncoderConfig())
    load_weights(net, weights, BERT_NAMES, BERT_UNUSED)
    return net.eval()


def quantise(net: TextEncoder, scratch: Path, out: Path) -> None:
    """Write the network as ONNX with int8 weights: one scale for each output channel, one for the token table."""
    export_text_encoder(net, scratch / "float.onnx")
    quant_pre_process(str(scratch / "float.onnx"), str(scratch / "plain.onnx"), skip_symbolic_shape=True)
    quantize_dynamic(
        scratch / "plain.onnx",
        out,
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        reduce_range=True,  # 7 bits: processors without VNNI add pairs in 16 bits, which 8 bits overflow
        extra_options={"MatMulConstBOnly": True},
    )


def closeness(net: TextEncoder, shipped: SentenceEncoder, tokenizer: Tokenizer, texts: list[str]) -> Closeness:
    """Compare the vectors of both for texts of at most `MAX_TOKENS`."""
    exact = np.concatenate([_exact_vector(net, tokenizer, text) for text in texts])
    cosines = (exact * shipped.encode(texts)).sum(axis=1)
    return Closeness(len(texts), float(cosines.mean()), float(cosines.min()))


def _exact_vector(net: TextEncoder, tokenizer: Tokenizer, text: str) -> npt.NDArray[np.float32]:
    token_ids = torch.tensor([tokenizer.encode(text).ids[:MAX_TOKENS]])
    with torch.no_grad():
        vectors, _ = net(token_ids, torch.ones_like(token_ids, dtype=torch.bool))
    array: npt.NDArray[np.float32] = vectors.numpy()
    return array


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors of all-MiniLM-L6-v2")
    parser.add_argument("--tokenizer", type=Path, required=True, help="its tokenizer.json")
    parser.add_argument("--tuned", type=Path, help="tuned.safetensors of the training")
    parser.add_argument("--share", type=float, default=1.0, help="of the way from the published to the tuned weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--texts", type=Path, help="UTF-8, one text a line: measure how near the shipped vectors are")
    arguments = parser.parse_args()
    tuned = Tuned(arguments.tuned, arguments.share) if arguments.tuned else None
    export(arguments.weights, arguments.tokenizer, arguments.out, tuned)
    if arguments.texts:
        texts = arguments.texts.read_text(encoding="utf-8").splitlines()
        tokenizer = Tokenizer.from_file(str(arguments.out / "tokenizer.json"))
        sys.stdout.write(f"{closeness(load(arguments.weights, tuned), SentenceEncoder(arguments.out), tokenizer, texts)}\n")


if __name__ == "__main__":
    main()
