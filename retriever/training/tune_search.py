"""Measures the search for words on what a recogniser said, for several settings: `python -m retriever.training.tune_search --help`.

A dump is an `.npz` with `log_probs_<i>` (T, Q), the recogniser's output, and `text_<i>`, what was said in normalised words.
"""

import argparse
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any, Final

import numpy as np

from retriever.lexicon_search import LexiconSearch, LogProbs, Settings
from retriever.metrics import edit_distance
from retriever.pronunciations import BLANK, PHONES
from retriever.training.language_text import ABBREVIATIONS
from retriever.training.lexicon import Lexicon, read_lexicon

FRAME_S: Final = 0.03


@dataclass(frozen=True, slots=True, eq=False)
class Dump:
    """What a recogniser said of some clips, and what was said in them."""

    name: str
    log_probs: tuple[LogProbs, ...]
    texts: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: Path, limit: int | None = None) -> "Dump":
        """Read the first so many clips of a dump, or all."""
        with np.load(path) as arrays:
            numbers = sorted(int(name.removeprefix("text_")) for name in arrays.files if name.startswith("text_"))[:limit]
            log_probs = tuple(arrays[f"log_probs_{number}"].astype(np.float32) for number in numbers)
            texts = tuple(tuple(str(arrays[f"text_{number}"]).split()) for number in numbers)
        return cls(path.stem.removeprefix("dump-"), log_probs, texts)


@dataclass(frozen=True, slots=True)
class Result:
    """Word errors and speed of one setting on one dump.

    Attributes:
        errors: share of the words that were said.
        oracle: the same for the best of the hypotheses asked for.
        speed: seconds of sound per second of one core.
    """

    errors: float
    oracle: float
    speed: float


def join_letters(words: Sequence[str], abbreviations: Collection[str]) -> list[str]:
    """Return words with spelled abbreviations put together, so that "d n a" and "dna" are the same.

    >>> join_letters("the d n a of a u s b".split(), {"dna", "us"})
    ['the', 'dna', 'of', 'a', 'us', 'b']
    """
    joined: list[str] = []
    place = 0
    while place < len(words):
        run = 1
        for length in range(2, min(6, len(words) - place) + 1):
            piece = words[place : place + length]
            if len(piece[-1]) > 1 and piece[-1][1:] not in ("s", "'s"):
                break
            if len(piece[-1]) == 1 and "".join(piece) in abbreviations:
                run = length
        joined.append("".join(words[place : place + run]))
        place += run
    return joined


def measure(search: LexiconSearch, dump: Dump, abbreviations: Collection[str], num_best: int = 1) -> Result:
    """Search a dump and compare."""
    start = time.process_time()
    found = search.search(dump.log_probs, num_best)
    spent_s = time.process_time() - start
    errors = best = said = 0
    for text, hypotheses in zip(dump.texts, found, strict=True):
        words = join_letters(text, abbreviations)
        heard = [join_letters(hypothesis.text.split(), abbreviations) for hypothesis in hypotheses]
        wrong = [edit_distance(words, one) for one in heard]
        said, errors, best = said + len(words), errors + wrong[0], best + min(wrong)
    sound_s = FRAME_S * sum(map(len, dump.log_probs))
    return Result(errors / said, best / said, sound_s / spent_s)


def phone_errors(dump: Dump, lexicon: Lexicon) -> float:
    """Return the phone error rate of the likeliest output of each frame, against the dictionary's first pronunciations."""
    errors = said = 0
    for log_probs, text in zip(dump.log_probs, dump.texts, strict=True):
        if all(word in lexicon for word in text):
            phones = [phone for word in text for phone in lexicon[word][0]]
            heard = [PHONES[output - 1] for output, _ in groupby(log_probs.argmax(axis=1)) if output != BLANK]
            errors, said = errors + edit_distance(phones, heard), said + len(phones)
    return errors / said


def grid(values: Mapping[str, Sequence[Any]]) -> Iterator[Settings]:
    """Yield the settings of all combinations of values."""
    for combination in product(*values.values()):
        yield replace(Settings(), **dict(zip(values, combination, strict=True)))


def main() -> None:
    """Print one line per setting and dump."""
    parser = argparse.ArgumentParser(prog="python -m retriever.training.tune_search", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with the dictionary and the language model")
    parser.add_argument("--texts", type=Path, required=True, help="folder that language_text wrote, for the abbreviations")
    parser.add_argument("--lexicon", type=Path, help="lexicon.tsv; print phone errors too")
    parser.add_argument("--dumps", type=Path, nargs="+", required=True)
    parser.add_argument("--values", type=json.loads, default={}, help='settings to try, as JSON: {"language_weight": [0.6, 0.8]}')
    parser.add_argument("--best", type=int, default=1, help="hypotheses, for the errors of the best of them")
    parser.add_argument("--clips", type=int, help="use only the first so many of each dump")
    arguments = parser.parse_args()
    abbreviations = frozenset((arguments.texts / ABBREVIATIONS).read_text(encoding="utf-8").split())
    dumps = [Dump.read(path, arguments.clips) for path in arguments.dumps]
    if arguments.lexicon:
        lexicon = read_lexicon(arguments.lexicon)
        print("phone errors:", {dump.name: round(phone_errors(dump, lexicon), 4) for dump in dumps}, flush=True)
    for settings in grid(arguments.values):
        search = LexiconSearch.load(arguments.model, settings)
        tried = {name: getattr(settings, name) for name in arguments.values}
        results = {dump.name: measure(search, dump, abbreviations, arguments.best) for dump in dumps}
        line = "  ".join(f"{name} {one.errors:.2%} ({one.oracle:.2%}) {one.speed:.0f}x" for name, one in results.items())
        mean = np.mean([one.errors for one in results.values()])
        print(f"{tried} mean {mean:.2%}  {line}", flush=True)


if __name__ == "__main__":
    main()
