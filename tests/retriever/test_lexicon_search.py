from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_language import (
    EXHAUSTIVE,
    alignment,
    best_by_trying_all,
    random_lexicon,
    random_log_probs,
    random_model,
    search_in,
)

from retriever.errors import InvalidAudio, ModelFilesMissing
from retriever.lexicon_search import Hypothesis, LexiconSearch, LogProbs, Settings, usual_phones
from retriever.ngram_model import FILE_NAME as MODEL_FILE
from retriever.ngram_model import NgramModel, encode
from retriever.pronunciations import FILE_NAME as LEXICON_FILE
from retriever.pronunciations import NUM_OUTPUTS, PHONES, Pronunciations

seeds = st.integers(0, 2**32 - 1)


def heard(phones: Sequence[str], probability: float = 0.9, frames_each: int = 2) -> LogProbs:
    """Return what a recogniser says that hears these phones with a blank after each."""
    rest = (1 - probability) / (NUM_OUTPUTS - 1)
    outputs = [number for phone in phones for number in (*[PHONES.index(phone) + 1] * frames_each, 0)]
    probs = np.full((len(outputs), NUM_OUTPUTS), rest)
    probs[np.arange(len(outputs)), outputs] = probability
    return np.log(probs).astype(np.float32)


@given(seeds, st.integers(2, 5), st.integers(0, 5))
@settings(max_examples=25)
def test_it_finds_the_best_of_everything_that_could_be_said(seed: int, num_words: int, num_frames: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(num_words, rng)
    lexicon = random_lexicon(model, rng)
    log_probs = random_log_probs(num_frames, rng)
    hypothesis = search_in(model, lexicon).search([log_probs])[0][0]
    if len(hypothesis.words) <= 3:
        assert hypothesis.score == pytest.approx(best_by_trying_all(log_probs, model, lexicon, EXHAUSTIVE, 3), abs=1e-3)
    else:
        assert hypothesis.score >= best_by_trying_all(log_probs, model, lexicon, EXHAUSTIVE, 3) - 1e-3


@given(seeds, st.integers(2, 3), st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=25)
def test_with_rare_words_too_it_finds_the_best_of_everything(seed: int, num_words: int, num_rare: int, num_frames: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(num_words, rng, num_rare)
    lexicon = random_lexicon(model, rng)
    log_probs = random_log_probs(num_frames, rng)
    hypothesis = search_in(model, lexicon).search([log_probs])[0][0]
    best = best_by_trying_all(log_probs, model, lexicon, EXHAUSTIVE, 3)
    if len(hypothesis.words) <= 3:
        assert hypothesis.score == pytest.approx(best, abs=1e-3)
    else:
        assert hypothesis.score >= best - 1e-3


@given(seeds)
@settings(max_examples=10)
def test_rare_words_count_as_their_class_and_as_themselves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(4, rng, 3)
    lexicon = {word: said[:1] for word, said in random_lexicon(model, rng).items()}
    found = search_in(model, lexicon).search([random_log_probs(12, rng)], num_best=6)[0]
    for hypothesis in found:
        words = tuple(word.text for word in hypothesis.words)
        assert hypothesis.language == pytest.approx(model.log_prob(words), abs=1e-3)
        total = hypothesis.acoustic + EXHAUSTIVE.language_weight * hypothesis.language + EXHAUSTIVE.word_score * len(words)
        assert hypothesis.score == pytest.approx(total, abs=1e-3)


def test_a_rare_word_is_heard_where_no_common_one_sounds_so() -> None:
    rng = np.random.default_rng(6)
    model = random_model(4, rng, 2)
    lexicon = {"w1": [("b", "aa")], "w2": [("p", "iy")], "rare0": [("k", "uw", "t")], "rare1": [("k", "uw", "d")]}
    found = search_in(model, lexicon).search([heard(["b", "aa", "k", "uw", "t", "p", "iy"], 0.999)])[0][0]
    assert found.text == "w1 rare0 w2"
    assert found.language == pytest.approx(model.log_prob(("w1", "rare0", "w2")), abs=1e-3)


@given(seeds)
@settings(max_examples=10)
def test_a_class_that_nobody_can_pronounce_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(5, rng)
    lexicon = random_lexicon(model, rng)
    lexicon = {word: said for word, said in lexicon.items() if word != "w4"}
    with_class = NgramModel(replace(model.ngrams, rare_words=("rare0", "rare1"), rare_probs=encode(np.log([0.5, 0.5]))))
    narrow = Settings(num_states=30, beam=8.0)
    log_probs = random_log_probs(20, rng)
    assert search_in(with_class, lexicon, narrow).search([log_probs], 3) == search_in(model, lexicon, narrow).search([log_probs], 3)


@given(seeds)
@settings(max_examples=10)
def test_the_score_is_what_its_own_words_are_worth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(5, rng)
    lexicon = {word: said[:1] for word, said in random_lexicon(model, rng).items()}
    log_probs = random_log_probs(12, rng)
    found = search_in(model, lexicon).search([log_probs], num_best=4)[0]
    phones = [phone for word in found[0].words for phone in lexicon[word.text][0]]
    assert found[0].acoustic == pytest.approx(alignment(log_probs, phones), abs=1e-3)
    for hypothesis in found:
        words = tuple(word.text for word in hypothesis.words)
        assert hypothesis.language == pytest.approx(model.log_prob(words), abs=1e-3)
        total = hypothesis.acoustic + EXHAUSTIVE.language_weight * hypothesis.language + EXHAUSTIVE.word_score * len(words)
        assert hypothesis.score == pytest.approx(total, abs=1e-3)


@given(seeds, st.lists(st.integers(0, 20), min_size=1, max_size=4), st.integers(0, 4))
@settings(max_examples=40)
def test_what_is_searched_beside_it_changes_nothing(seed: int, lengths: list[int], num_rare: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(6, rng, num_rare)
    search = search_in(model, random_lexicon(model, rng), Settings(num_states=30, beam=8.0))
    segments = [random_log_probs(length, rng) for length in lengths]
    together = search.search(segments, num_best=2)
    assert together == [search.search([segment], num_best=2)[0] for segment in segments]


@given(seeds, st.integers(1, 60))
@settings(max_examples=15)
def test_words_follow_each_other_within_the_segment(seed: int, num_frames: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(6, rng)
    search = search_in(model, random_lexicon(model, rng), Settings(num_states=40, skip_blank=0.5))
    for hypothesis in search.search([random_log_probs(num_frames, rng)], num_best=3)[0]:
        end = 0
        for word in hypothesis.words:
            assert end <= word.start < word.end <= num_frames
            assert 0 <= word.confidence <= 1
            end = word.end


def test_hypotheses_differ_and_the_best_comes_first() -> None:
    rng = np.random.default_rng(3)
    model = random_model(6, rng)
    found = search_in(model, random_lexicon(model, rng)).search([random_log_probs(30, rng)], num_best=8)[0]
    assert len(found) == len({hypothesis.text for hypothesis in found}) == 8
    assert [hypothesis.score for hypothesis in found] == sorted((hypothesis.score for hypothesis in found), reverse=True)


@pytest.mark.parametrize("num_frames", [0, 1])
def test_next_to_no_sound_gives_one_hypothesis(num_frames: int) -> None:
    rng = np.random.default_rng(1)
    model = random_model(4, rng)
    (hypothesis,) = search_in(model, random_lexicon(model, rng)).search([random_log_probs(num_frames, rng)])[0]
    assert len(hypothesis.words) <= num_frames


def test_silence_says_nothing() -> None:
    rng = np.random.default_rng(1)
    model = random_model(4, rng)
    silence = np.full((50, NUM_OUTPUTS), -20, np.float32)
    silence[:, 0] = 0
    assert search_in(model, random_lexicon(model, rng), Settings()).search([silence]) == [(Hypothesis((), 0.0, 0.0, 0.0),)]


def test_a_segment_that_ends_within_every_word_keeps_the_words_before() -> None:
    model = random_model(3, np.random.default_rng(0))
    lexicon = {"w1": [("b", "ae", "t")], "w2": [("k", "iy")]}
    (hypothesis,) = search_in(model, lexicon, Settings(beam=20.0)).search([heard(["k", "iy", "b", "ae"], 0.999)])[0]
    assert hypothesis.text == "w2"


def test_a_beam_too_narrow_for_any_word_still_ends_with_a_hypothesis() -> None:
    model = random_model(3, np.random.default_rng(0))
    lexicon = {"w1": [("b", "ae", "t")], "w2": [("k", "iy")]}
    found = search_in(model, lexicon, Settings(beam=0.01)).search([heard(["k", "iy", "b", "ae", "t"], 0.999)])[0]
    assert len(found) == 1


def test_a_repeated_phone_needs_a_blank_and_a_repeated_word_too() -> None:
    model = random_model(2, np.random.default_rng(0))
    search = search_in(model, {"w1": [("aa",)]})
    assert search.search([heard(["aa", "aa"], 0.999)])[0][0].text == "w1 w1"
    joined = heard(["aa", "aa"], 0.999)[[0, 1, 3, 4]]  # without the blank between
    assert search.search([joined])[0][0].text == "w1"


def test_passing_over_sure_blanks_changes_neither_words_nor_scores() -> None:
    rng = np.random.default_rng(5)
    model = random_model(6, rng)
    lexicon = random_lexicon(model, rng)
    phones = [phone for word in ("w1", "w3", "w2", "w5", "w2") for phone in lexicon[word][0]]
    log_probs = heard(phones, 0.995, frames_each=1)
    every, few = (search_in(model, lexicon, replace(EXHAUSTIVE, skip_blank=level)).search([log_probs])[0][0] for level in (1.1, 0.98))
    assert [(word.text, word.start, word.end) for word in few.words] == [(word.text, word.start, word.end) for word in every.words]
    assert few.score == pytest.approx(every.score, abs=1e-3)


def test_the_words_before_choose_between_words_that_sound_the_same() -> None:
    rng = np.random.default_rng(2)
    model = random_model(6, rng)
    said = ("t", "uw")
    lexicon = {"w1": [("aa",)], "w2": [said], "w3": [said], "w4": [said], "w5": [("b",)]}
    found = search_in(model, lexicon).search([heard(["aa", *said])], num_best=3)[0]
    assert {hypothesis.text for hypothesis in found} == {"w1 w2", "w1 w3", "w1 w4"}
    assert found[0].text == max((hypothesis.text for hypothesis in found), key=lambda text: model.log_prob(tuple(text.split())))


def test_of_words_that_sound_the_same_each_is_as_sure_as_its_share() -> None:
    rng = np.random.default_rng(2)
    model = random_model(4, rng)
    said = ("t", "uw")
    search = search_in(model, {"w1": [said], "w2": [said], "w3": [said]}, replace(EXHAUSTIVE, confidence_scale=1.0))
    found = search.search([heard(said, 0.9999)], num_best=3)[0]
    shares = np.exp([EXHAUSTIVE.language_weight * model.log_prob((hypothesis.words[0].text,)) for hypothesis in found])
    assert [hypothesis.words[0].confidence for hypothesis in found] == pytest.approx(shares / shares.sum(), abs=0.02)


def test_what_is_said_often_must_be_heard_more_clearly_if_the_prior_counts() -> None:
    model = random_model(3, np.random.default_rng(0))
    usual = usual_phones(Pronunciations.of({"w1": [("b", "aa", "b")], "w2": [("p", "aa")]}, model.words), model.unigrams)
    likely = np.exp(model.unigrams)
    assert usual[PHONES.index("b") + 1] - usual[PHONES.index("p") + 1] == pytest.approx(np.log(2 * likely[1] / likely[2]), abs=1e-5)
    lexicon = {"w1": [("b", "t")], "w2": [("p", "t")]}
    commoner, rarer = sorted(("w1", "w2"), key=lambda word: -model.log_prob((word,)))
    log_probs = heard(lexicon[commoner][0], 0.999)
    log_probs[:2, PHONES.index(lexicon[rarer][0][0]) + 1] = log_probs[:2, PHONES.index(lexicon[commoner][0][0]) + 1] - 0.01
    by_sound = replace(EXHAUSTIVE, language_weight=0.0, word_score=0.0)
    texts = [search_in(model, lexicon, replace(by_sound, prior_weight=weight)).search([log_probs])[0][0].text for weight in (0.0, 0.5)]
    assert texts == [commoner, rarer]


def test_a_cost_of_the_blank_lets_a_doubtful_phone_through() -> None:
    model = random_model(2, np.random.default_rng(0))
    doubt = np.full((1, NUM_OUTPUTS), -12, np.float32)
    doubt[0, :2] = np.log([0.7, 0.3])
    texts = [
        search_in(model, {"w1": [("aa",)]}, replace(EXHAUSTIVE, language_weight=0.0, word_score=0.0, blank_cost=cost))
        .search([doubt])[0][0]
        .text
        for cost in (0.0, 2.0)
    ]
    assert texts == ["", "w1"]


def test_a_clear_word_is_surer_than_a_doubtful_one() -> None:
    rng = np.random.default_rng(4)
    model = random_model(3, rng)
    search = search_in(model, {"w1": [("b", "aa")], "w2": [("p", "aa")]}, replace(EXHAUSTIVE, language_weight=0.0))
    log_probs = heard(["b", "aa", "b", "aa"])
    doubt = log_probs.copy()
    doubt[6:8, PHONES.index("p") + 1] = doubt[6:8, PHONES.index("b") + 1] - 0.1
    first, second = search.search([doubt])[0][0].words
    assert first.confidence > 0.9
    assert 0.8 > second.confidence > 0.4


@pytest.mark.parametrize(
    "log_probs", [np.zeros((3, 7), np.float32), np.zeros(40, np.float32), np.full((2, NUM_OUTPUTS), np.nan, np.float32)]
)
def test_what_is_no_output_of_the_recogniser_is_refused(log_probs: LogProbs) -> None:
    rng = np.random.default_rng(1)
    model = random_model(3, rng)
    with pytest.raises(InvalidAudio):
        search_in(model, random_lexicon(model, rng)).search([log_probs])


@pytest.mark.parametrize("num_rare", [0, 5])
def test_the_files_of_a_folder_search_as_what_was_saved(tmp_path: Path, num_rare: int) -> None:
    rng = np.random.default_rng(7)
    model = random_model(6, rng, num_rare)
    lexicon = Pronunciations.of(random_lexicon(model, rng), model.words)
    lexicon.save(tmp_path / LEXICON_FILE)
    model.save(tmp_path / MODEL_FILE)
    log_probs = random_log_probs(40, rng)
    assert LexiconSearch.load(tmp_path).search([log_probs], 3) == LexiconSearch(lexicon, model).search([log_probs], 3)


def test_of_more_words_than_sixteen_bits_count_the_last_is_heard(tmp_path: Path) -> None:
    model = random_model(3, np.random.default_rng(7), 70_000)
    lexicon = {"w1": [("b", "aa")], "rare4463": [("k",)], "rare69999": [("k", "uw", "t")]}  # numbers that differ by 65,536
    Pronunciations.of(lexicon, model.words).save(tmp_path / LEXICON_FILE)
    model.save(tmp_path / MODEL_FILE)
    assert LexiconSearch.load(tmp_path).search([heard(["b", "aa", "k", "uw", "t"], 0.999)])[0][0].text == "w1 rare69999"


def test_a_folder_without_the_files_is_no_search(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesMissing, match="install"):
        LexiconSearch.load(tmp_path)
    (tmp_path / LEXICON_FILE).write_bytes(b"not compressed")
    with pytest.raises(ModelFilesMissing, match="install"):
        LexiconSearch.load(tmp_path)
