"""Texts spoken and heard again: the words are found where they were said, and answers move along."""

import random
import sys

import numpy as np
import pytest

from generator.training import reader_hearing
from generator.training.reader_data import QuestionOnPassage
from generator.training.reader_hearing import HeardPiece, HeardTexts, hear_pieces, learn_confusions, pieces_of, read_heard
from generator.training.reader_noise import Confusions, Rates
from retriever.clsr import CLSR_SMALL
from retriever.hearing import Ear
from retriever.runtime import ShippedModel
from retriever.training.augmentation import Augmentation, AugmentationConfig
from retriever.training.synthesis import SynthesiserMissing, check_voices

KINDS = ("function", "common", "rare", "unknown")
NOTHING = Rates(dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0.0), 0.0, 0.0)
DEAF = Confusions({}, {}, NOTHING)  # never mishears
PIECES = [
    HeardPiece(("the", "mitral", "valve", "opens"), (("the",), ("my", "trail"), ("valve",), ())),
    HeardPiece(("between", "the", "two", "chambers"), (("between",), ("the",), ("to",), ("chamber", "is"))),
]
PASSAGE = ("first", "the", "mitral", "valve", "opens", "between", "the", "two", "chambers", "then", "it", "closes")


def test_words_that_were_spoken_become_what_was_heard():
    heard, places = HeardTexts(PIECES, DEAF).mishear(PASSAGE, random.Random(0))
    assert " ".join(heard) == "first the my trail valve between the to chamber is then it closes"
    assert len(places) == len(PASSAGE) + 1
    assert heard[places[2] : places[4]] == ("my", "trail", "valve")
    assert places[4] == places[5]  # nothing was heard for "opens"
    assert heard[places[7] : places[9]] == ("to", "chamber", "is")


def test_answers_move_along_and_what_was_not_heard_teaches_nothing():
    texts = HeardTexts(PIECES, DEAF)
    one = QuestionOnPassage("q", "new_wiki", "g", ("what", "opens"), PASSAGE, ((2, 4),), (("mitral", "valve"),))
    for seed in range(20):
        heard = texts(one, random.Random(seed))
        (first, last) = heard.answers[0]
        assert heard.passage[first:last] in (("my", "trail", "valve"), ("mitral", "valve"))
    lost = QuestionOnPassage("q", "new_wiki", "g", ("what",), PASSAGE, ((4, 5),), (("opens",),))
    assert all(texts(lost, random.Random(seed)) == lost for seed in range(20))


def test_a_stretch_that_was_spoken_twice_is_heard_in_both_ways():
    twice = [*PIECES, HeardPiece(PIECES[0].said, (("the",), ("mitral",), ("valve",), ("opens",)))]
    heard = {HeardTexts(twice, DEAF).mishear(PASSAGE[1:5], random.Random(seed))[0] for seed in range(20)}
    assert heard == {("the", "my", "trail", "valve"), ("the", "mitral", "valve", "opens")}


def test_pieces_hold_every_word_once():
    words = tuple(f"w{number}" for number in range(100))
    pieces = list(pieces_of(words))
    assert [word for piece in pieces for word in piece] == list(words)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_confusions_learn_what_was_heard():
    record = {"alikes": {}, "kinds": {"the": "function", "valve": "common", "opens": "common", "two": "common"}, "rates": {}}
    assert 4 / 8 <= learn_confusions(record, PIECES) <= 5 / 8  # words are aligned again, and several ways cost the same
    assert record["observed"] == {"mitral": ["my trail"], "opens": [""], "two": ["to"], "chambers": ["chamber is"]}
    confusions = Confusions({}, record["kinds"], Rates(**record["rates"]), (0.9, 0.9), observed={"two": ["to"] * 50})
    heard = {confusions.mishear(("two",), 0.9, random.Random(seed))[0] for seed in range(50)}
    assert ("to",) in heard


@pytest.fixture(scope="module")
def ear():
    try:
        check_voices("espeak")
        check_voices("flite")
    except SynthesiserMissing as missing:
        pytest.skip(str(missing))
    return Ear(ShippedModel.read(CLSR_SMALL))


def test_the_recogniser_hears_most_of_what_a_synthesiser_says(ear):
    quiet = Augmentation(AugmentationConfig(room=0.0, noise=0.0, telephone=0.0), (np.zeros(16_000, np.float32),), ())
    pieces = [
        tuple(line.split()) for line in ("the history of the city begins with a small village", "the water of the river is very cold")
    ]
    heard = [piece for seed in range(3) for piece in hear_pieces(pieces, ear, quiet, seed)]
    words = [(word, instead) for piece in heard for word, instead in zip(piece.said, piece.heard, strict=True)]
    assert len(words) == 3 * 18
    assert sum((word,) == instead for word, instead in words) > len(words) / 2


def test_hearing_goes_on_where_it_stopped(ear, tmp_path, monkeypatch):
    noise = tmp_path / "noise"
    noise.mkdir()
    import soundfile  # noqa: PLC0415

    soundfile.write(noise / "hum.flac", np.sin(np.arange(32_000) / 20).astype(np.float32) * 0.1, 16_000)
    texts = [("the", "river", "flows", "down", "to", "the", "sea", end) for end in ("now", "here", "there")] * 6
    monkeypatch.setattr(reader_hearing, "training_texts", lambda _data: texts)
    out = tmp_path / "heard.jsonl"
    arguments = ["reader_hearing", "--data", str(tmp_path), "--noise", str(noise), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(reader_hearing.time, "process_time", lambda: 0.0)
    reader_hearing.main()
    whole = out.read_text(encoding="utf-8")
    out.write_text(whole[: whole.index("\n") + 1], encoding="utf-8")
    reader_hearing.main()
    assert len(out.read_text(encoding="utf-8").splitlines()) == len(whole.splitlines()) == 3
    assert {piece.said for piece in read_heard(out)} == set(texts)
