"""Windows hold every word of a passage whole, and no more tokens than they may."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from generator.windows import WordPieces, lay_out, windows
from retriever.runtime import ShippedModel
from retriever.sentence_encoder import MINILM

PIECES = WordPieces(Tokenizer.from_file(str(ShippedModel.read(MINILM).verified("tokenizer.json"))))
WORDS = st.lists(st.sampled_from(["heart", "photosynthesis", "the", "ingenhousz", "didn't", "of"]), max_size=60)


@given(WORDS, st.integers(24, 64))
def test_windows_hold_every_word_and_fit(passage, max_tokens):
    question = ["what", "is", "it"]
    seen = set()
    for window in windows(PIECES, question, passage, max_tokens):
        assert len(window.token_ids) <= max_tokens
        assert len(window.token_types) == len(window.token_ids)
        for place, (start, end) in enumerate(zip(window.starts, window.ends, strict=True)):
            word = passage[window.first_word + place]
            assert window.token_ids[start : end + 1] == PIECES(word)
            assert set(window.token_types[start : end + 1]) == {1}
            seen.add(window.first_word + place)
    assert seen == set(range(len(passage)))


def test_neighbouring_windows_share_half_their_words():
    passage = ["heart"] * 100
    laid = list(windows(PIECES, ["why"], passage, 44))
    for one, other in pairwise(laid):
        assert other.first_word == one.first_word + len(one.starts) // 2


def test_words_in_one_window_are_tokenised_as_a_sentence_is():
    sentence = "the heart of ingenhousz didn't beat"
    asked = [PIECES.first, PIECES.last]
    window = lay_out(PIECES, asked, sentence.split(), 0)
    whole = Tokenizer.from_file(str(ShippedModel.read(MINILM).verified("tokenizer.json"))).encode(sentence, add_special_tokens=False).ids
    assert list(window.token_ids[2:-1]) == whole


def test_a_question_that_fills_the_window_is_refused():
    with pytest.raises(ValueError, match="leaves no room"):
        list(windows(PIECES, ["photosynthesis"] * 40, ["heart"], 44))
