import math
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from retriever.lexicon_search import LexiconSearch
from retriever.ngram_model import START, NgramModel
from retriever.training.kneser_ney import CUT, Backoff, Counts, Pruner, smooth
from retriever.training.language_model import RARE_WORD, START_WORD, Recipe, Vocabulary, fit, quantise, token_stream, train
from retriever.training.lexicon import Lexicon

TEXT = """\
the heart pumps blood
the heart never rests

what is the heart
<cut>
blood carries oxygen and blood carries sugar

the lungs take oxygen and the heart pumps blood to the lungs
the heart is what pumps
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "train-made.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def pronounced(words: Iterable[str]) -> Lexicon:
    """Return a dictionary in which all words sound the same."""
    return {word: [("aa",)] for word in sorted(set(words) - {"<cut>"})}


def made(path: Path, num_common: int = 100, listed: Collection[str] = ()) -> tuple[Backoff, Counts, Vocabulary]:
    """Return the model of a text, its counts and its words, so many of them common; with listed words the others are rare."""
    vocabulary = Vocabulary.choose(Counter(TEXT.split()), pronounced([*TEXT.split(), *listed]), listed, num_common)
    counts = Counts.of([token_stream(path, vocabulary.numbers)], [1], len(vocabulary.words))
    return smooth(counts), counts, vocabulary


def sums(model: NgramModel) -> list[float]:
    """Return what the probabilities of all words add up to in each context of one or two words."""
    num_words = len(model.ngrams.words)
    words = np.flatnonzero(np.isfinite(model.unigrams))
    states = {START, *range(num_words)} | {
        int(model.score(np.array([first]), np.array([second]))[1][0]) for first in range(num_words) for second in range(1, num_words)
    }
    return [float(np.exp(model.score(np.full(len(words), state), words)[0].astype(np.float64)).sum()) for state in sorted(states)]


def test_words_run_on_across_sentences_but_not_across_paragraphs(text: Path) -> None:
    numbers = {START_WORD: START} | {word: number for number, word in enumerate(sorted(set(TEXT.split()) - {"<cut>"}), start=1)}
    names = {number: word for word, number in numbers.items()} | {CUT: "|"}
    stream = [names[number] for number in token_stream(text, numbers).tolist()]
    pairs = set(pairwise(stream))
    assert {("blood", "the"), ("lungs", "the"), ("<s>", "what"), ("<s>", "the"), ("<s>", "blood")} <= pairs
    assert not pairs & {("rests", "what"), ("heart", "blood"), ("sugar", "the"), ("heart", "<s>")}
    triples = Counter(zip(stream, stream[1:], stream[2:], strict=False))
    assert triples["<s>", "the", "heart"] == 3
    assert triples["the", "heart", "pumps"] == 2


def test_the_smoothed_model_is_the_formula_worked_by_hand(text: Path) -> None:
    model, counts, vocabulary = made(text)
    number = vocabulary.words.index
    heart = number("the") << 16 | number("heart")
    place = int(np.searchsorted(model.bigrams, heart))
    before = {key >> 32 for key in counts.trigrams.tolist() if key & 0xFFFFFFFF == heart}
    followers = {key & 0xFFFF: len({other >> 32 for other in counts.trigrams.tolist() if other & 0xFFFFFFFF == key})
                 for key in counts.bigrams.tolist() if key >> 16 == number("the")}  # fmt: skip
    assert followers[number("heart")] == len(before)
    lower = np.exp(model.words[number("heart")])
    discounted = np.exp(model.bigram_probs[place])
    assert lower < discounted < len(before) / sum(followers.values()) + lower


def test_every_context_of_the_full_model_sums_to_one(text: Path) -> None:
    model, _, words = made(text)
    assert np.exp(model.words[1:]).sum() == pytest.approx(1)
    assert sums(quantise(model, words)) == pytest.approx([1.0] * len(sums(quantise(model, words))), abs=0.05)


@pytest.mark.parametrize("num_ngrams", [0, 5, 20, 40])
def test_a_pruned_model_is_small_and_still_sums_to_one(text: Path, num_ngrams: int) -> None:
    model, counts, words = made(text)
    pruned = Pruner(model, counts).to_size(num_ngrams)
    assert len(pruned.bigrams) + len(pruned.trigrams) <= num_ngrams
    assert set((pruned.trigrams >> 16).tolist()) <= set(pruned.bigrams.tolist())
    small = quantise(pruned, words)
    assert sums(small) == pytest.approx([1.0] * len(sums(small)), abs=0.05)


def test_pruning_leaves_the_most_useful_n_grams(text: Path, tmp_path: Path) -> None:
    model, counts, words = made(text)
    pruner = Pruner(model, counts)
    sizes = [len(model.bigrams) + len(model.trigrams), 30, 10, 0]
    perplexities = [fit(quantise(pruner.to_size(size), words), text).perplexity for size in sizes]
    assert perplexities == sorted(perplexities)
    assert perplexities[0] < 0.8 * perplexities[-1]


def test_a_heavier_text_is_likelier(tmp_path: Path) -> None:
    (tmp_path / "train-books.txt").write_text("the heart is a pump\n\nthe heart was what\n", encoding="utf-8")
    (tmp_path / "train-questions-made.txt").write_text("what is the heart\n\nwhat is a pump\n", encoding="utf-8")
    lexicon = pronounced(["the", "heart", "is", "a", "pump", "what", "was"])

    def likelihood(weight: int) -> float:
        counts, words = train(tmp_path, lexicon, (), Recipe(question_weight=weight), tmp_path / f"counts-{weight}.npz")
        return quantise(smooth(counts), words).log_prob(("what", "is", "a", "pump"))

    assert likelihood(8) > likelihood(1)
    counts, words = train(tmp_path, lexicon, (), Recipe(question_weight=8), tmp_path / "counts-8.npz")  # from the cache
    assert quantise(smooth(counts), words).log_prob(("what", "is", "a", "pump")) == likelihood(8)


def test_the_fit_counts_unknown_words_and_does_not_predict_them(text: Path, tmp_path: Path) -> None:
    model, _, words = made(text)
    held_out = tmp_path / "dev-made.txt"
    held_out.write_text("the heart zigzags blood\n", encoding="utf-8")
    measured = fit(quantise(model, words), held_out)
    assert measured.unknown == 1 / 4
    assert measured.num_words == 4
    numbers = words.numbers
    score = float(quantise(model, words).score(np.array([numbers["the"]]), np.array([numbers["heart"]]))[0][0])
    assert measured.perplexity == pytest.approx(math.exp(-score), rel=1e-4)


def test_words_beyond_the_common_ones_are_rare_if_they_are_said_or_listed() -> None:
    counts = Counter({"the": 9, "heart": 5, "lung": 2, "spleen": 1, "mumble": 1})
    lexicon = {"the": [("dh",)], "heart": [("hh",)], "lung": [("l",)], "spleen": [("b",)], "zygote": [("z",)], "heldout": [("aa",)]}
    vocabulary = Vocabulary.choose(counts, lexicon, {"zygote", "the"}, 2)
    assert vocabulary.words == (START_WORD, "the", "heart", RARE_WORD)
    assert dict(zip(vocabulary.rare, vocabulary.rare_counts, strict=True)) == {"spleen": 1, "lung": 2, "zygote": 0}
    assert vocabulary.numbers == {START_WORD: 0, "the": 1, "heart": 2, RARE_WORD: 3, "spleen": 3, "lung": 3, "zygote": 3}
    shares = np.exp(vocabulary.rare_log_probs(0.5))
    assert shares == pytest.approx([{"spleen": 1.5, "lung": 2.5, "zygote": 0.5}[word] / 4.5 for word in vocabulary.rare])
    assert Vocabulary.choose(counts, lexicon, (), 2) == Vocabulary((START_WORD, "the", "heart"))


@pytest.mark.parametrize("num_ngrams", [0, 10, 100])
def test_with_rare_words_too_every_context_sums_to_one(text: Path, num_ngrams: int) -> None:
    model, counts, vocabulary = made(text, 5, listed=["spleen", "the"])
    assert len(vocabulary.rare) > 5
    small = quantise(Pruner(model, counts).to_size(num_ngrams), vocabulary)
    assert sums(small) == pytest.approx([1.0] * len(sums(small)), abs=0.05)


def test_what_goes_with_one_rare_word_goes_with_all(tmp_path: Path) -> None:
    lines = [
        "the zebra sleeps",
        "the walrus sleeps",
        "the heron sleeps",
        "the child runs",
        "a child sleeps",
        "a child runs",
        "the child is a child",
    ]
    (tmp_path / "train-made.txt").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    lexicon = pronounced([*" ".join(lines).split(), "spleen"])
    counts, vocabulary = train(tmp_path, lexicon, {"spleen"}, Recipe(num_words=5), tmp_path / "counts.npz")
    model = quantise(smooth(counts), vocabulary)
    assert set(vocabulary.rare) >= {"zebra", "walrus", "heron", "spleen"}

    def after(*words: str) -> float:
        return model.log_prob(words) - model.log_prob(words[:-1])

    assert after("the", "spleen", "sleeps") == pytest.approx(after("the", "heron", "sleeps"), abs=1e-5)
    assert after("the", "spleen", "sleeps") > after("the", "child", "sleeps")
    assert after("the", "heron") > after("a", "heron")
    assert after("the", "spleen") < after("the", "heron")  # no text says it


def test_the_fit_counts_rare_words_with_their_own_probability(text: Path, tmp_path: Path) -> None:
    model, _, vocabulary = made(text, 5, listed=["spleen"])
    small = quantise(model, vocabulary)
    (tmp_path / "dev-made.txt").write_text("spleen pumps\n", encoding="utf-8")
    measured = fit(small, tmp_path / "dev-made.txt")
    score = float(small.score(small.contexts(np.array([small.numbers["spleen"]])), np.array([small.numbers["pumps"]]))[0][0])
    assert measured.unknown == 0
    assert measured.perplexity == pytest.approx(math.exp(-score), rel=1e-4)


def test_counts_with_rare_words_come_back_from_the_cache(text: Path, tmp_path: Path) -> None:
    lexicon = pronounced([*TEXT.split(), "spleen"])
    first, again = (train(tmp_path, lexicon, {"spleen"}, Recipe(num_words=5), tmp_path / "counts.npz") for _ in range(2))
    assert first[1] == again[1]
    assert first[1].words[-1] == RARE_WORD
    assert np.array_equal(first[0].trigrams, again[0].trigrams)
    assert first[0].words[-1] >= sum(first[1].rare_counts)  # the beginnings of sentences count once more


@pytest.mark.parametrize("options", [[], ["--rare", "--words", "5"]])
def test_one_command_makes_files_that_search(text: Path, tmp_path: Path, options: list[str]) -> None:
    lexicon = tmp_path / "lexicon.tsv"
    lexicon.write_text("".join(f"{word}\tdh ah\n" for word in sorted(set(TEXT.split()) - {"<cut>"})), encoding="utf-8")
    command = [
        "--texts",
        text.parent,
        "--lexicon",
        lexicon,
        "--out",
        tmp_path / "out",
        "--cache",
        tmp_path / "counts.npz",
        "--ngrams",
        "20",
        *options,
    ]
    subprocess.run([sys.executable, "-m", "retriever.training.language_model", *map(str, command)], check=True, capture_output=True)
    search = LexiconSearch.load(tmp_path / "out")
    assert search.search([np.zeros((0, 40), np.float32)])[0][0].words == ()
    assert (len(search.language.words) > 100_000) == bool(options)  # all of the CMU dictionary
