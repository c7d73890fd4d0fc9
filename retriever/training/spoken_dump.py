"""Speaks held-out sentences and keeps what a shipped recogniser says of them: `python -m retriever.training.spoken_dump --help`.

Writes one dump per file of sentences and synthesiser, as `retriever.training.tune_search` reads them, so that dictionaries and language
models can be compared on texts of which there is no speech.
"""

import argparse
import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from retriever.acoustic import AcousticModel
from retriever.clsr import CLSR_SMALL
from retriever.domain import Audio
from retriever.runtime import ShippedModel
from retriever.training.language_text import ABBREVIATIONS, read_sentences
from retriever.training.synthesis import Engine, choose_delivery, speak

ENGINES: Final[tuple[Engine, ...]] = ("flite", "espeak")
NUM_WORDS: Final = (5, 35)  # of a sentence, fewest and most
_TWO_WORDS: Final = frozenset(["us"])  # abbreviations that are written as another word is: nobody can tell how to say them


def choose_sentences(path: Path, number: int, rng: random.Random) -> list[list[str]]:
    """Return so many different sentences of a file that `language_text` wrote, or all that are neither short nor long."""
    fewest, most = NUM_WORDS
    found = {" ".join(words) for words in read_sentences(path) if fewest <= len(words) <= most and not _TWO_WORDS & set(words)}
    return [text.split() for text in rng.sample(sorted(found), min(number, len(found)))]


def spelled(words: Sequence[str], abbreviations: Collection[str]) -> str:
    """Return words as they are given to a synthesiser: abbreviations letter by letter.

    >>> spelled(["the", "dna", "of", "gpus"], {"dna", "gpu"})
    'the d n a of g p us'
    """
    return " ".join(_letters(word, abbreviations) for word in words)


def _letters(word: str, abbreviations: Collection[str]) -> str:
    for ending in ("", "'s", "s"):
        stem = word.removesuffix(ending)
        if stem + ending == word and stem in abbreviations:
            return " ".join(stem) + ending
    return word


def spoken(texts: Sequence[Sequence[str]], engine: Engine, abbreviations: Collection[str], rng: random.Random) -> Iterator[Audio]:
    """Yield each text as spoken by a voice of the synthesiser in a manner of its own."""
    for words in texts:
        voice, manner = choose_delivery(engine, rng)
        yield speak(voice, spelled(words, abbreviations), manner).audio


def main() -> None:
    """Write the dumps."""
    parser = argparse.ArgumentParser(prog="python -m retriever.training.spoken_dump", description=__doc__)
    parser.add_argument("--texts", type=Path, required=True, help="folder that language_text wrote")
    parser.add_argument("--names", nargs="+", required=True, help="files of it, without their ending: dev-passages-qed")
    parser.add_argument("--recogniser", type=Path, default=CLSR_SMALL, help="folder of a shipped CLSR")
    parser.add_argument("--out", type=Path, required=True, help="folder for the dumps")
    parser.add_argument("--sentences", type=int, default=60, help="of each file, for each synthesiser")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    abbreviations = frozenset((arguments.texts / ABBREVIATIONS).read_text(encoding="utf-8").split()) - _TWO_WORDS
    network = AcousticModel(ShippedModel.read(arguments.recogniser))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        rng = random.Random(f"{arguments.seed} {name}")  # noqa: S311
        texts = choose_sentences(arguments.texts / f"{name}.txt", len(ENGINES) * arguments.sentences, rng)
        for place, engine in enumerate(ENGINES):
            own = texts[place :: len(ENGINES)]
            dump: dict[str, Any] = {f"text_{one}": " ".join(words) for one, words in enumerate(own)}
            for one, audio in enumerate(spoken(own, engine, abbreviations, rng)):
                dump[f"log_probs_{one}"] = network.log_probs(audio.samples).astype(np.float16)
            np.savez_compressed(arguments.out / f"dump-{name}-{engine}.npz", **dump)
            print(f"{name} {engine}: {len(own)} sentences, {sum(map(len, own))} words", flush=True)


if __name__ == "__main__":
    main()
