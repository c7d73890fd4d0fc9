"""Makes the language model of the recogniser: `python -m retriever.training.language_model --help`.

A trigram model of the training texts (`retriever.training.kneser_ney`); its probabilities are rounded to the steps that are stored and its
back-off weights computed anew from those, so that what ships sums to one.

Words beyond the common ones that have a pronunciation are one word to the n-grams, the class of rare words; how likely each is within the
class depends on its count alone (Brown et al. 1992, "Class-Based n-gram Models of Natural Language", every common word a class of its own).

Shapes: V words of the n-grams with the start, R rare words, K tokens.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from retriever.ngram_model import FILE_NAME, START, STEP, NgramModel, Ngrams, decode_backoffs, encode, encode_backoffs
from retriever.pronunciations import FILE_NAME as LEXICON_FILE
from retriever.pronunciations import Pronunciations
from retriever.training.kneser_ney import CUT, UNKNOWN, Backoff, Counts, Floats, Ids, Pruner, smooth
from retriever.training.language_text import CUT_LINE
from retriever.training.lexicon import Lexicon, cmudict_path, plain_words, read_cmudict, read_lexicon

MAX_WORDS: Final = UNKNOWN
_LINE_END: Final = "<end>"
_END: Final = CUT - 1
START_WORD: Final = "<s>"
RARE_WORD: Final = "<rare>"


def choose_vocabulary(counts: Counter[str], pronounced: frozenset[str], size: int) -> tuple[str, ...]:
    """Return the start and the commonest words that have a pronunciation, in order of their counts."""
    common = sorted((word for word in counts if word in pronounced), key=lambda word: (-counts[word], word))
    return (START_WORD, *common[: min(size, MAX_WORDS - 2)])


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What can be heard.

    Attributes:
        words: (V,) of the n-grams, the start first; the last is the class of the rare words, if there are any.
        rare: (R,) the rare words.
        rare_counts: (R,) how often the training texts say each.
    """

    words: tuple[str, ...]
    rare: tuple[str, ...] = ()
    rare_counts: tuple[int, ...] = ()

    @classmethod
    def choose(cls, counts: Counter[str], lexicon: Lexicon, listed: Collection[str], size: int) -> "Vocabulary":
        """Choose the common words and the rare ones.

        Args:
            counts: of the words of the training texts.
            lexicon: the dictionary.
            listed: words that can be heard though no text says them. A word of the dictionary that is neither said nor listed is left out:
                only held-out texts say it.
            size: number of common words.
        """
        common = choose_vocabulary(counts, frozenset(lexicon), size)
        wanted = {word for word in lexicon if counts[word] or word in listed} - set(common)
        if not listed or not wanted:
            return cls(common)
        rare = sorted(wanted, key=lambda word: (lexicon[word][0], word))  # in the order of the dictionary's file, which is smaller so
        return cls((*common, RARE_WORD), tuple(rare), tuple(counts[word] for word in rare))

    @property
    def numbers(self) -> dict[str, int]:
        """Word -> number that stands for it in n-grams."""
        return dict.fromkeys(self.rare, len(self.words) - 1) | {word: number for number, word in enumerate(self.words)}

    def rare_log_probs(self, unseen: float) -> Floats:
        """Return (R,) log-probabilities of rare words within their class.

        Args:
            unseen: what every word's count gets more, as held-out texts say words that no training text says.
        """
        raised = np.array(self.rare_counts, np.float64) + unseen
        return np.log(raised / raised.sum()) if len(raised) else raised


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


def quantise(model: Backoff, vocabulary: Vocabulary, unseen: float = 0.5) -> NgramModel:
    """Return the model that ships: probabilities in steps, back-off weights such that each context sums to one again.

    Args:
        model: over the vocabulary's words.
        vocabulary: its words and the rare ones.
        unseen: as in `Vocabulary.rare_log_probs`.
    """
    words = vocabulary.words
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
            vocabulary.rare,
            encode(vocabulary.rare_log_probs(unseen)),
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
        perplexity: of the words it knows, the rare ones among them.
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
    after_two = model.score(np.where(before == CUT, START, model.contexts(before)), np.where(last == CUT, START, last))[1]
    state = np.where(before == CUT, model.contexts(last), after_two)
    said = (word != CUT) & (last != CUT)
    scores, _ = model.score(state[said], word[said])
    num_words = int((stream != CUT).sum()) + num_unknown
    return Fit(math.exp(-float(scores.mean(dtype=np.float64))), num_unknown / num_words, num_words)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the model is made of.

    Attributes:
        num_words: that are common.
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


def train(texts: Path, lexicon: Lexicon, listed: Collection[str], recipe: Recipe, cache: Path) -> tuple[Counts, Vocabulary]:
    """Choose the vocabulary and count the n-grams of the training files; what was counted before is read from the cache.

    Args:
        texts: folder that `language_text` wrote.
        lexicon: the dictionary.
        listed: words that can be heard though no text says them; without any there are no rare words.
        recipe: weights and size of the vocabulary.
        cache: file for the counts; remove it when the texts, the dictionary or the weights change.
    """
    if cache.exists():
        return _read_counts(cache)
    paths = sorted(texts.glob("train-*.txt"))
    counted: Counter[str] = Counter()
    for path in paths:
        own = count_words(path)
        counted.update({word: number * recipe.weight(path) for word, number in own.items()})
    vocabulary = Vocabulary.choose(counted, lexicon, listed, recipe.num_words)
    numbers = vocabulary.numbers
    streams = [token_stream(path, numbers) for path in paths]
    counts = Counts.of(streams, [recipe.weight(path) for path in paths], len(vocabulary.words))
    _write_counts(counts, vocabulary, cache)
    return counts, vocabulary


def _write_counts(counts: Counts, vocabulary: Vocabulary, path: Path) -> None:
    partial = path.with_suffix(".part.npz")
    words, rare = (np.frombuffer("\n".join(words).encode(), np.uint8) for words in (vocabulary.words, vocabulary.rare))
    counted = {name: getattr(counts, name) for name in _COUNTED}
    np.savez(partial, vocabulary=words, rare=rare, rare_counts=np.array(vocabulary.rare_counts, np.int64), **counted)
    partial.replace(path)


def _read_counts(path: Path) -> tuple[Counts, Vocabulary]:
    with np.load(path) as arrays:
        words, rare = (tuple(arrays[name].tobytes().decode().split("\n")) for name in ("vocabulary", "rare"))
        rare_counts = tuple(arrays["rare_counts"].tolist())
        return Counts(len(words), *(arrays[name] for name in _COUNTED)), Vocabulary(words, rare if rare_counts else (), rare_counts)


_COUNTED: Final = ("words", "bigrams", "bigram_counts", "trigrams", "trigram_counts")


def main() -> None:
    """Make the files that ship and print how well they predict the held-out texts."""
    parser = argparse.ArgumentParser(prog="python -m retriever.training.language_model", description=__doc__)
    parser.add_argument("--texts", type=Path, required=True, help="folder that language_text wrote")
    parser.add_argument("--lexicon", type=Path, required=True, help="lexicon.tsv")
    parser.add_argument("--rare", action="store_true", help="let rare words be heard, and all of the CMU dictionary, as one class")
    parser.add_argument("--unseen", type=float, default=0.5, help="what the count of every rare word gets more")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files that ship")
    parser.add_argument("--cache", type=Path, required=True, help="file for the counts (.npz); read if it exists")
    parser.add_argument("--words", type=int, default=Recipe().num_words)
    parser.add_argument("--ngrams", type=int, nargs="+", default=[Recipe().num_ngrams], help="several sizes make folders <out>-<size>")
    arguments = parser.parse_args()
    listed = plain_words(read_cmudict(cmudict_path())) if arguments.rare else {}
    lexicon = {**listed, **read_lexicon(arguments.lexicon)}
    counts, vocabulary = train(arguments.texts, lexicon, listed, Recipe(num_words=arguments.words), arguments.cache)
    model = smooth(counts)
    size = {"tokens": int(counts.words.sum()), "bigrams": len(model.bigrams), "trigrams": len(model.trigrams)}
    print(json.dumps({**size, "rare": {"words": len(vocabulary.rare), "tokens": sum(vocabulary.rare_counts)}}), flush=True)
    pruner = Pruner(model, counts)
    for size in arguments.ngrams:
        out = arguments.out if len(arguments.ngrams) == 1 else arguments.out.with_name(f"{arguments.out.name}-{size}")
        out.mkdir(parents=True, exist_ok=True)
        pruned = quantise(pruner.to_size(size), vocabulary, arguments.unseen)
        pruned.save(out / FILE_NAME)
        Pronunciations.of(lexicon, pruned.words).save(out / LEXICON_FILE)
        bytes_used = {name: (out / name).stat().st_size for name in (FILE_NAME, LEXICON_FILE)}
        kept = {"bigrams": len(pruned.ngrams.bigram_words), "trigrams": len(pruned.ngrams.trigram_words)}
        held_out = [path for path in sorted(arguments.texts.glob("dev-*.txt")) if path.stat().st_size]
        fits = {path.stem: asdict(fit(pruned, path)) for path in held_out}
        print(json.dumps({"size": size, "bytes": bytes_used, **kept, "fit": fits}), flush=True)


if __name__ == "__main__":
    main()
