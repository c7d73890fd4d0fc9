import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from retriever.lexicon_search import LexiconSearch
from retriever.ngram_model import START, NgramModel
from retriever.training.kneser_ney import CUT, Backoff, Counts, Pruner, smooth
from retriever.training.language_model import START_WORD, Recipe, choose_vocabulary, fit, quantise, token_stream, train

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


def made(path: Path) -> tuple[Backoff, Counts, tuple[str, ...]]:
    words = choose_vocabulary(Counter(TEXT.split()), frozenset(TEXT.split()) - {"<cut>"}, 100)
    counts = Counts.of([token_stream(path, {word: number for number, word in enumerate(words)})], [1], len(words))
    return smooth(counts), counts, words


def sums(model: NgramModel) -> list[float]:
    """Return what the probabilities of all words add up to in each context of one or two words."""
    num_words = len(model.words)
    words = np.arange(1, num_words)
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
    model, counts, words = made(text)
    number = words.index
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
    pronounced = frozenset(["the", "heart", "is", "a", "pump", "what", "was"])

    def likelihood(weight: int) -> float:
        counts, words = train(tmp_path, pronounced, Recipe(question_weight=weight), tmp_path / f"counts-{weight}.npz")
        return quantise(smooth(counts), words).log_prob(("what", "is", "a", "pump"))

    assert likelihood(8) > likelihood(1)
    counts, words = train(tmp_path, pronounced, Recipe(question_weight=8), tmp_path / "counts-8.npz")  # from the cache
    assert quantise(smooth(counts), words).log_prob(("what", "is", "a", "pump")) == likelihood(8)


def test_the_fit_counts_unknown_words_and_does_not_predict_them(text: Path, tmp_path: Path) -> None:
    model, _, words = made(text)
    held_out = tmp_path / "dev-made.txt"
    held_out.write_text("the heart zigzags blood\n", encoding="utf-8")
    measured = fit(quantise(model, words), held_out)
    assert measured.unknown == 1 / 4
    assert measured.num_words == 4
    score = float(quantise(model, words).score(np.array([words.index("the")]), np.array([words.index("heart")]))[0][0])
    assert measured.perplexity == pytest.approx(math.exp(-score), rel=1e-4)


def test_one_command_makes_files_that_search(text: Path, tmp_path: Path) -> None:
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
    ]
    subprocess.run([sys.executable, "-m", "retriever.training.language_model", *map(str, command)], check=True, capture_output=True)
    assert LexiconSearch.load(tmp_path / "out").search([np.zeros((0, 40), np.float32)])[0][0].words == ()
