"""Makes the language model of the recogniser: `python -m retriever.training.language_model --help`.

A trigram model of the training texts (`retriever.training.kneser_ney`); its probabilities are rounded to the steps that are stored and its
back-off weights computed anew from those, so that what ships sums to one.

Shapes: V words with the start, K tokens.
"""

import argparse
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from retriever.ngram_model import FILE_NAME, START, STEP, NgramModel, Ngrams, decode_backoffs, encode, encode_backoffs
from retriever.pronunciations import FILE_NAME as LEXICON_FILE
from retriever.pronunciations import Pronunciations
from retriever.training.kneser_ney import CUT, Backoff, Counts, Floats, Ids, Pruner, smooth
from retriever.training.language_text import CUT_LINE
from retriever.training.lexicon import read_lexicon

MAX_WORDS: Final = CUT - 1
_LINE_END: Final = "<end>"
_END: Final = CUT - 1
START_WORD: Final = "<s>"


def choose_vocabulary(counts: Counter[str], pronounced: frozenset[str], size: int) -> tuple[str, ...]:
    """Return the start and the commonest words that have a pronunciation, in order of their counts."""
    common = sorted((word for word in counts if word in pronounced), key=lambda word: (-counts[word], word))
    return (START_WORD, *common[: min(size, MAX_WORDS - 2)])


def token_stream(path: Path, numbers: dict[str, int]) -> Ids:
    """Return the (K,) words of a file as numbers, sentences running on within a paragraph, and their first two once more after a start.

    A speaker does not say where a sentence ends, so words follow each other across sentences; and a segment may begin with a sentence.
    """
    text = path.read_text(encoding="utf-8").replace("\n", f" {_LINE_END} ")
    numbers = {**numbers, _LINE_END: _END}
    tokens = np.array([CUT, _END, *(numbers.get(word, CUT) for word in text.split()), _END, CUT], np.int64)
    is_end = tokens == _END
    tokens[np.flatnonzero(is_end[1:] & is_end[:-1]) + 1] = CUT  # an empty line: the paragraph's edge
    first = np.flatnonzero(is_end[:-2] & (tokens[1:-1] != CUT) & (tokens[1:-1] != _END)) + 1
    second = np.where(tokens[first + 1] == _END, CUT, tokens[first + 1])
    beginnings = np.stack([np.full(len(first), CUT), np.full(len(first), START), tokens[first], second], axis=1).reshape(-1)
    return np.concatenate((tokens[tokens != _END], beginnings, [CUT]))


def count_words(path: Path) -> Counter[str]:
    """Count the words of a file of sentences."""
    counts = Counter(path.read_text(encoding="utf-8").split())
    del counts[CUT_LINE]
    return counts


def quantise(model: Backoff, words: tuple[str, ...]) -> NgramModel:
    """Return the model that ships: probabilities in steps, back-off weights such that each context sums to one again."""
    word_codes = encode(np.where(np.isinf(model.words), 0, model.words))
    rounded = Backoff(
        np.where(np.isinf(model.words), -np.inf, _rounded(np.zeros(len(word_codes), np.int64), model.words)),
        model.bigrams,
        _rounded(model.bigrams >> 16, model.bigram_probs),
        model.trigrams,
        _rounded(model.contexts_of_trigrams(), model.trigram_probs),
    )
    word_backoffs = encode_backoffs(rounded.word_backoffs())
    bigram_backoffs = encode_backoffs(rounded.bigram_backoffs(decode_backoffs(word_backoffs).astype(np.float64)))
    return NgramModel(
        Ngrams(
            words,
            word_codes,
            word_backoffs,
            np.bincount(model.bigrams >> 16, minlength=len(words)).astype(np.uint16),
            (model.bigrams & 0xFFFF).astype(np.uint16),
            encode(rounded.bigram_probs),
            bigram_backoffs,
            np.bincount(model.contexts_of_trigrams(), minlength=len(model.bigrams)).astype(np.uint16),
            (model.trigrams & 0xFFFF).astype(np.uint16),
            encode(rounded.trigram_probs),
        )
    )


def _rounded(contexts: Ids, log_probs: Floats) -> Floats:
    """Return log-probabilities in steps; rounded down wherever rounding would take too much from what a context leaves to the others."""
    nearest, down = np.rint(log_probs / STEP) * STEP, np.floor(log_probs / STEP) * STEP
    true, taken = (1 - np.bincount(contexts, np.exp(values)) for values in (log_probs, nearest))
    return np.where((taken < 0.5 * true)[contexts], down, nearest)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a model predicts a text.

    Attributes:
        perplexity: of the words it knows.
        unknown: share of the words that it does not know.
        num_words: of the text.
    """

    perplexity: float
    unknown: float
    num_words: int


def fit(model: NgramModel, path: Path) -> Fit:
    """Measure a model on a file of sentences."""
    stream = token_stream(path, model.numbers)
    stream = stream[: int(np.argmax(stream == START)) or len(stream)]
    num_unknown = sum(number for word, number in count_words(path).items() if word not in model.numbers)
    before, last, word = stream[:-2], stream[1:-1], stream[2:]
    after_two = model.score(np.where(before == CUT, START, before), np.where(last == CUT, START, last))[1]
    state = np.where(before == CUT, last, after_two)
    said = (word != CUT) & (last != CUT)
    scores, _ = model.score(state[said], word[said])
    num_words = int((stream != CUT).sum()) + num_unknown
    return Fit(math.exp(-float(scores.mean(dtype=np.float64))), num_unknown / num_words, num_words)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the model is made of.

    Attributes:
        num_words: of the vocabulary.
        num_ngrams: bigrams and trigrams that are kept.
        question_weight, article_weight: how often each question and each passage of an encyclopedia counts.
    """

    num_words: int = 60_000
    num_ngrams: int = 1_200_000
    question_weight: int = 4
    article_weight: int = 2

    def weight(self, path: Path) -> int:
        """Return how often the sentences of a file count."""
        if path.name.startswith("train-questions-"):
            return self.question_weight
        return self.article_weight if path.stem.removeprefix("train-passages-") in _ARTICLES else 1


_ARTICLES: Final = frozenset({"new_wiki", "nqg_train", "qamr", "qed", "clapnq"})


def train(texts: Path, pronounced: frozenset[str], recipe: Recipe, cache: Path) -> tuple[Counts, tuple[str, ...]]:
    """Choose the vocabulary and count the n-grams of the training files; what was counted before is read from the cache.

    Args:
        texts: folder that `language_text` wrote.
        pronounced: words of the dictionary.
        recipe: weights and size of the vocabulary.
        cache: file for the counts; remove it when the texts or the weights change.
    """
    if cache.exists():
        with np.load(cache) as arrays:
            words = tuple(arrays["vocabulary"].tobytes().decode().split("\n"))
            return Counts(len(words), *(arrays[name] for name in _COUNTED)), words
    paths = sorted(texts.glob("train-*.txt"))
    counted: Counter[str] = Counter()
    for path in paths:
        own = count_words(path)
        counted.update({word: number * recipe.weight(path) for word, number in own.items()})
    words = choose_vocabulary(counted, pronounced, recipe.num_words)
    numbers = {word: number for number, word in enumerate(words)}
    streams = [token_stream(path, numbers) for path in paths]
    counts = Counts.of(streams, [recipe.weight(path) for path in paths], len(words))
    partial = cache.with_suffix(".part.npz")
    text = np.frombuffer("\n".join(words).encode(), np.uint8)
    np.savez(partial, vocabulary=text, **{name: getattr(counts, name) for name in _COUNTED})
    partial.replace(cache)
    return counts, words


_COUNTED: Final = ("words", "bigrams", "bigram_counts", "trigrams", "trigram_counts")


def main() -> None:
    """Make the files that ship and print how well they predict the held-out texts."""
    parser = argparse.ArgumentParser(prog="python -m retriever.training.language_model", description=__doc__)
    parser.add_argument("--texts", type=Path, required=True, help="folder that language_text wrote")
    parser.add_argument("--lexicon", type=Path, required=True, help="lexicon.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files that ship")
    parser.add_argument("--cache", type=Path, required=True, help="file for the counts (.npz); read if it exists")
    parser.add_argument("--words", type=int, default=Recipe().num_words)
    parser.add_argument("--ngrams", type=int, nargs="+", default=[Recipe().num_ngrams], help="several sizes make folders <out>-<size>")
    arguments = parser.parse_args()
    lexicon = read_lexicon(arguments.lexicon)
    counts, words = train(arguments.texts, frozenset(lexicon), Recipe(num_words=arguments.words), arguments.cache)
    model = smooth(counts)
    print(json.dumps({"tokens": int(counts.words.sum()), "bigrams": len(model.bigrams), "trigrams": len(model.trigrams)}), flush=True)
    pruner = Pruner(model, counts)
    for size in arguments.ngrams:
        out = arguments.out if len(arguments.ngrams) == 1 else arguments.out.with_name(f"{arguments.out.name}-{size}")
        out.mkdir(parents=True, exist_ok=True)
        pruned = quantise(pruner.to_size(size), words)
        pruned.save(out / FILE_NAME)
        Pronunciations.of(lexicon, words).save(out / LEXICON_FILE)
        bytes_used = {name: (out / name).stat().st_size for name in (FILE_NAME, LEXICON_FILE)}
        kept = {"bigrams": len(pruned.ngrams.bigram_words), "trigrams": len(pruned.ngrams.trigram_words)}
        held_out = [path for path in sorted(arguments.texts.glob("dev-*.txt")) if path.stat().st_size]
        fits = {path.stem: asdict(fit(pruned, path)) for path in held_out}
        print(json.dumps({"size": size, "bytes": bytes_used, **kept, "fit": fits}), flush=True)


if __name__ == "__main__":
    main()
