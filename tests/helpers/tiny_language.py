"""A language of a few words, small enough to try everything that could be said in it."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from retriever.lexicon_search import LexiconSearch, Settings
from retriever.ngram_model import NgramModel, Ngrams, encode, encode_backoffs
from retriever.pronunciations import NUM_OUTPUTS, PHONES, Pronunciations

Lexicon = Mapping[str, Sequence[tuple[str, ...]]]
LogProbs = npt.NDArray[np.float32]

EXHAUSTIVE = Settings(
    blank_cost=0.0,
    prior_weight=0.0,
    language_weight=0.7,
    word_score=0.3,
    num_states=100_000,
    beam=1e3,
    num_phones=39,
    min_phone=-1e9,
    skip_blank=1.1,
    lattice_beam=1e3,
)


def random_model(num_words: int, rng: np.random.Generator, num_rare: int = 0) -> NgramModel:
    """Return a model with random bigrams and trigrams; its contexts need not sum to one. With rare words the last word is their class."""

    def followers(number: int) -> npt.NDArray[np.int64]:
        return np.sort(rng.choice(np.arange(1, num_words), size=min(number, num_words - 1), replace=False))

    seconds = [followers(int(rng.integers(0, num_words))) for _ in range(num_words)]
    bigrams = np.concatenate(seconds)
    thirds = [followers(int(rng.integers(0, 3))) for _ in bigrams]
    trigrams = np.concatenate([*thirds, np.zeros(0, np.int64)])
    return NgramModel(
        Ngrams(
            ("<s>", *(f"w{number}" for number in range(1, num_words))),
            np.concatenate(([np.uint8(0)], encode(np.log(rng.dirichlet(np.ones(num_words - 1)))))),
            encode_backoffs(rng.normal(size=num_words) - 0.5),
            np.array([len(second) for second in seconds], np.uint16),
            bigrams.astype(np.uint16),
            encode(-rng.exponential(2, size=len(bigrams))),
            encode_backoffs(rng.normal(size=len(bigrams)) - 0.5),
            np.array([len(third) for third in thirds], np.uint16),
            trigrams.astype(np.uint16),
            encode(-rng.exponential(2, size=len(trigrams))),
            tuple(f"rare{number}" for number in range(num_rare)),
            encode(np.log(rng.dirichlet(np.ones(num_rare)))) if num_rare else np.zeros(0, np.uint8),
        )
    )


def sayable(model: NgramModel) -> tuple[str, ...]:
    """Return the words that can be heard: neither the start nor the class of the rare words."""
    num_words = len(model.ngrams.words)
    return model.words[1:] if len(model.words) == num_words else (*model.words[1 : num_words - 1], *model.words[num_words:])


def random_lexicon(model: NgramModel, rng: np.random.Generator, num_phones: int = 4) -> Lexicon:
    """Return one or two short pronunciations for each word, of so few phones that some words sound the same."""
    return {
        word: [tuple(str(phone) for phone in rng.choice(PHONES[:num_phones], size=rng.integers(1, 4))) for _ in range(rng.integers(1, 3))]
        for word in sayable(model)
    }


def random_log_probs(num_frames: int, rng: np.random.Generator, num_phones: int = 4) -> LogProbs:
    """Return what a recogniser in doubt between the blank and the first phones might say."""
    values = rng.normal(size=(num_frames, NUM_OUTPUTS)) * 2
    values[:, num_phones + 1 :] -= 20
    return (values - np.logaddexp.reduce(values, axis=1, keepdims=True)).astype(np.float32)


def search_in(model: NgramModel, lexicon: Lexicon, settings: Settings = EXHAUSTIVE) -> LexiconSearch:
    """Return a search that leaves nothing out."""
    return LexiconSearch(Pronunciations.of(lexicon, model.words), model, settings)


def best_by_trying_all(log_probs: LogProbs, model: NgramModel, lexicon: Lexicon, settings: Settings, max_words: int) -> float:
    """Return the score of the best of all sequences of up to so many words in all pronunciations."""
    best = alignment(log_probs, ())
    for number in range(1, max_words + 1):
        for words in product(sayable(model), repeat=number):
            language = model.log_prob(words)
            for said in product(*(list(enumerate(dict.fromkeys(lexicon[word]))) for word in words)):
                phones = tuple(phone for _, spelled in said for phone in spelled)
                unusual = sum(rank > 0 for rank, _ in said)
                extra = settings.word_score * number - settings.unusual_cost * unusual
                best = max(best, alignment(log_probs, phones) + settings.language_weight * language + extra)
    return best


def alignment(log_probs: LogProbs, phones: Sequence[str]) -> float:
    """Return the log-probability of the best way to say some phones: blanks between them, a phone may last several frames."""
    outputs = [0, *(number for phone in phones for number in (PHONES.index(phone) + 1, 0))]
    best = [0.0] + [-np.inf] * len(outputs)  # the first stands for what is before the first frame
    for frame in log_probs.tolist():
        new = [-np.inf]
        for place, output in enumerate(outputs):
            ways = [best[place + 1], best[place] if place else best[0]]
            if place == 1 or (place > 1 and output and output != outputs[place - 2]):
                ways.append(best[place - 1])
            new.append(max(ways) + frame[output])
        best = new
    return max(best[-1], best[-2] if len(outputs) > 1 else best[0] if not len(log_probs) else -np.inf)
