"""Speaks held-out sentences and keeps what a shipped recogniser says of them: `python -m retriever.training.spoken_dump --help`.

Writes one dump per file of sentences and synthesiser, as `retriever.training.tune_search` reads them, so that dictionaries and language
models can be compared on texts of which there is no speech; speech that is there is taken as it is.
"""

import argparse
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from retriever.acoustic import AcousticModel
from retriever.clsr import CLSR_SMALL
from retriever.domain import Audio, Samples
from retriever.runtime import ShippedModel
from retriever.training.language_text import ABBREVIATIONS, read_sentences
from retriever.training.speech_shards import open_shards
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
    parser.add_argument("--texts", type=Path, help="folder that language_text wrote")
    parser.add_argument("--names", nargs="+", default=[], help="files of it, without their ending: dev-passages-qed")
    parser.add_argument("--shards", type=Path, nargs="+", default=[], help="folders of speech to take as it is: SPEECH/hts-dev")
    parser.add_argument("--recogniser", type=Path, default=CLSR_SMALL, help="folder of a shipped CLSR")
    parser.add_argument("--out", type=Path, required=True, help="folder for the dumps")
    parser.add_argument("--sentences", type=int, default=60, help="of each file for each synthesiser, and of each folder of speech")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.names and arguments.texts is None:
        parser.error("--names needs --texts, the folder that they are in")
    network = AcousticModel(ShippedModel.read(arguments.recogniser))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for folder in arguments.shards:
        _write(arguments.out, folder.name, recorded(folder, arguments.sentences), network)
    for name in arguments.names:
        abbreviations = frozenset((arguments.texts / ABBREVIATIONS).read_text(encoding="utf-8").split()) - _TWO_WORDS
        rng = random.Random(f"{arguments.seed} {name}")  # noqa: S311
        texts = choose_sentences(arguments.texts / f"{name}.txt", len(ENGINES) * arguments.sentences, rng)
        for place, engine in enumerate(ENGINES):
            own = texts[place :: len(ENGINES)]
            sounds = (audio.samples for audio in spoken(own, engine, abbreviations, rng))
            _write(arguments.out, f"{name}-{engine}", zip(map(" ".join, own), sounds, strict=True), network)


def recorded(folder: Path, number: int) -> Iterator[tuple[str, Samples]]:
    """Yield text and sound of the first so many clips of a folder of shards."""
    clips = ((clip.text, shard.samples(clip)) for shard in open_shards(folder) for clip in shard.clips)
    return islice(clips, number)


def _write(folder: Path, name: str, speech: Iterable[tuple[str, Samples]], network: AcousticModel) -> None:
    dump: dict[str, Any] = {}
    num_words = 0
    for number, (text, samples) in enumerate(speech):
        dump |= {f"text_{number}": text, f"log_probs_{number}": network.log_probs(samples).astype(np.float16)}
        num_words += len(text.split())
    np.savez_compressed(folder / f"dump-{name}.npz", **dump)
    print(f"{name}: {len(dump) // 2} sentences, {num_words} words", flush=True)


if __name__ == "__main__":
    main()
