"""What the stages that learn to retrieve read: tiny networks with weights drawn at random, a dictionary of what is said, four questions."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

from retriever import ngram_model, pronunciations
from retriever.checkpoint import save_weights
from retriever.nets.paraformer import ParaformerConfig
from retriever.nets.recogniser import Recogniser, RecogniserConfig
from retriever.nets.sanm import BlockConfig
from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig
from retriever.ngram_model import NgramModel, Ngrams, encode, encode_backoffs
from retriever.pronunciations import PHONES, Pronunciations

FACTS = (
    ("What orbits the sun?", "The small blue planet orbits its sun once a year."),
    ("Who wrote the book?", "A quiet teacher from the north wrote the book in winter."),
    ("Where is the lake?", "The deepest lake of the land lies behind the grey mountain."),
    ("What do bees make?", "All summer long the bees make honey from wild flowers."),
)
WORDS = sorted({word.strip(".").lower() for _, context in FACTS for word in context.split()})
LEXICON = {word: [[PHONES[ord(letter) % len(PHONES)] for letter in word]] for word in WORDS}  # no English, but one for each word


def write_inputs(folder: Path, text_config: Mapping[str, int]) -> None:
    """Write `recogniser/`, `text.safetensors`, `search/`, `qa/` and `noise/`."""
    torch.manual_seed(0)
    block = BlockConfig(16, 2, 24, num_taps=3, dropout=0.0)
    net = Recogniser(RecogniserConfig(encoder=ParaformerConfig(num_encoder_blocks=1, num_decoder_blocks=0, block=block), tap_block=1))
    net.frontend.set_cmvn(torch.full((560,), -9.0), torch.full((560,), 0.3))
    (folder / "recogniser").mkdir()
    (folder / "recogniser/state.json").write_text(json.dumps({"config": asdict(net.config)}))
    save_file(net.state_dict(), folder / "recogniser/average.safetensors")
    save_weights(TextEncoder(TextEncoderConfig(**text_config)), folder / "text.safetensors")
    (folder / "search").mkdir()
    words, none = ("<s>", *LEXICON), np.zeros(0, np.uint8)
    Pronunciations.of(LEXICON, words).save(folder / "search" / pronunciations.FILE_NAME)
    num, ids = len(words), np.zeros(0, np.uint16)
    even, zeros = encode(np.log(np.full(num, 1 / (num - 1)))), np.zeros(num, np.uint16)
    model = NgramModel(Ngrams(words, even, encode_backoffs(np.zeros(num)), zeros, ids, none, none, ids, ids, none))
    model.save(folder / "search" / ngram_model.FILE_NAME)
    rows = [
        {
            "title": f"t{number // 2}", "context": context, "question": question, "answers": [{"text": "x", "start": 4}],
            "split": "train", "level": "passage",
        }
        for number, (question, context) in enumerate(FACTS)
    ]  # fmt: skip
    (folder / "qa").mkdir()
    with gzip.open(folder / "qa/qed.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "noise").mkdir()
    soundfile.write(folder / "noise/hiss.flac", np.random.default_rng(0).standard_normal(8_000) * 0.1, 16_000)
