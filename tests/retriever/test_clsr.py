"""The retriever over a recogniser of tones: each phone is a frequency, so a test can say words without a voice, and knows when."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="making a network needs onnx (extra `train`)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from retriever import clsr, ngram_model, pronunciations  # noqa: E402
from retriever.acoustic import INPUTS, NETWORK, OUTPUTS  # noqa: E402
from retriever.clsr import ClsrRetriever, as_said, in_order  # noqa: E402
from retriever.config import Clsr  # noqa: E402
from retriever.domain import Audio, Question, Samples, Segment, SegmentAudio, join_words  # noqa: E402
from retriever.errors import InvalidQuestion, ModelFilesMissing  # noqa: E402
from retriever.ngram_model import NgramModel, Ngrams, encode, encode_backoffs  # noqa: E402
from retriever.pronunciations import PHONES, Pronunciations  # noqa: E402
from retriever.runtime import sha256  # noqa: E402
from retriever.sentence_encoder import SentenceEncoder  # noqa: E402

LEXICON: Mapping[str, Sequence[Sequence[str]]] = {
    "cold": [["k", "ow", "l", "d"]],
    "house": [["hh", "aw", "s"]],
    "music": [["m", "y", "uw", "z", "ih", "k"]],
    "water": [["w", "ao", "t", "er"]],
}
VOCABULARY = ("<s>", *LEXICON)
PAUSE_S = 0.15
PHONE_S = 0.12  # long enough that one output lies well inside
LOUD = 26.0  # of a log filter bank, exceeded by a tone in its own band alone
_SAID = sorted({phone for said in LEXICON.values() for phone in said[0]})
_BANDS = dict(zip(_SAID, range(30, 80, 50 // len(_SAID)), strict=False))  # below 30, bands are narrower than the tone's width


def write_model(folder: Path, settings: Mapping[str, float | str] | None = None) -> Path:
    """Write a folder of weights: a network, made by hand, that hears which band is loud; a dictionary; a language model."""
    folder.mkdir(parents=True, exist_ok=True)
    weight, bias = np.zeros((7, 80, 2, 40), np.float32), np.zeros((2, 40), np.float32)
    bias[:, 1:] = -2.0 * LOUD  # a phone that no word has is never heard
    for phone, band in _BANDS.items():
        for output, frame in enumerate((4, 6)):  # 10 ms frames that lie in the first and in the second half of 60 ms
            weight[frame, band, output, 1 + PHONES.index(phone)] = 2.0
    nodes = [
        helper.make_node("MatMul", [INPUTS[0], "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], [OUTPUTS[0]], axis=-1),
    ]
    constants = {"weight": weight.reshape(560, 80), "bias": bias.reshape(80), "shape": np.array([0, -1, 40], np.int64)}
    graph = helper.make_graph(
        nodes,
        "tones",
        [
            helper.make_tensor_value_info(INPUTS[0], TensorProto.FLOAT, ["B", "U", 560]),
            helper.make_tensor_value_info(INPUTS[1], TensorProto.BOOL, ["B", "U"]),
        ],
        [helper.make_tensor_value_info(OUTPUTS[0], TensorProto.FLOAT, ["B", "K", 40])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / NETWORK)
    Pronunciations.of(LEXICON, VOCABULARY).save(folder / pronunciations.FILE_NAME)
    _language_model().save(folder / ngram_model.FILE_NAME)
    names = (NETWORK, pronunciations.FILE_NAME, ngram_model.FILE_NAME)
    config = {"language": "en", "phones": " ".join(PHONES), "outputs_per_frame": 2, "text_encoder": "minilm-l6-en", **(settings or {})}
    (folder / "config.json").write_text(json.dumps(config | {"files": {name: sha256(folder / name) for name in names}}))
    return folder


def say(words: Sequence[str]) -> Samples:
    """Return tones for the words' phones, with a pause before each word and after the last, in faint noise."""
    silence = np.zeros(round(PAUSE_S * 16_000))
    pieces = [part for word in words for part in (silence, *(_tone(phone) for phone in LEXICON[word][0]))]
    sound = np.concatenate([*pieces, silence])
    noise = np.random.default_rng(len(sound)).normal(0, 1e-4, len(sound))
    return (sound + noise).astype(np.float32)


def word_s(word: str) -> float:
    """Return how long a word lasts in seconds."""
    return PHONE_S * len(LEXICON[word][0])


def _tone(phone: str) -> np.ndarray:
    low, high = (1127.0 * np.log1p(hertz / 700.0) for hertz in (20.0, 8_000.0))
    mel = low + (high - low) * (_BANDS[phone] + 1) / 81
    times = np.arange(round(PHONE_S * 16_000)) / 16_000
    return 0.5 * np.sin(2 * np.pi * 700.0 * np.expm1(mel / 1127.0) * times)


def _language_model() -> NgramModel:
    num, none8, none16 = len(VOCABULARY), np.zeros(0, np.uint8), np.zeros(0, np.uint16)
    probs, backoffs = encode(np.log(np.full(num, 1 / (num - 1)))), encode_backoffs(np.zeros(num))
    zeros = np.zeros(num, np.uint16)
    return NgramModel(Ngrams(VOCABULARY, probs, backoffs, zeros, none16, none8, none8, none16, none16, none8))


SENTENCES = (["cold", "water"], ["music", "house", "house"], [], ["water"], ["music", "cold", "music", "water", "house"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights") / "tones")


@pytest.fixture
def retriever(folder: Path) -> Iterator[ClsrRetriever]:
    made = ClsrRetriever(Clsr(num_threads=2), folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clips() -> list[SegmentAudio]:
    """A segment for each sentence, ten seconds apart."""
    lecture, clips = UUID(int=1), []
    for number, words in enumerate(SENTENCES):
        sound = Audio(say(words) if words else np.zeros(16_000, np.float32))
        start = number * 160_000
        clips.append(SegmentAudio(Segment(lecture, start, start + sound.num_samples, lecture), sound))
    return clips


def test_the_words_said_are_heard_where_they_were_said(retriever: ClsrRetriever, clips: list[SegmentAudio]) -> None:
    for clip, words, one in zip(clips, SENTENCES, retriever.embed(clips), strict=True):
        assert [word.text for word in one.words] == words
        said_at = clip.segment.start
        for word in one.words:
            said_at += round(PAUSE_S * 16_000)
            assert word.start == pytest.approx(said_at, abs=700)
            said_at += round(word_s(word.text) * 16_000)
            assert word.start < word.end <= said_at + 700
            assert 0 <= word.confidence <= 1


def test_a_segments_vector_is_that_of_its_words(retriever: ClsrRetriever, clips: list[SegmentAudio]) -> None:
    for one in retriever.embed(clips):
        np.testing.assert_allclose(one.vector, SentenceEncoder().encode([join_words(one.words)])[0], atol=1e-6)
        assert one.fingerprint == retriever.fingerprint


@pytest.mark.parametrize("group_s", [0.1, 3.0, 240.0])
def test_what_is_heard_depends_on_no_neighbour(
    retriever: ClsrRetriever, clips: list[SegmentAudio], group_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clsr, "GROUP_SAMPLES", round(group_s * 16_000))
    together = list(retriever.embed(clips[::-1]))[::-1]
    for clip, one in zip(clips, together, strict=True):
        (alone,) = retriever.embed([clip])
        assert one.segment == clip.segment
        assert one.words == alone.words
        np.testing.assert_array_equal(one.vector, alone.vector)


def test_a_word_never_reaches_beyond_its_segment(retriever: ClsrRetriever) -> None:
    """The last output of a sound may begin after its end."""
    whole = say(["house"])
    for num_samples in range(len(whole) - 3_000, len(whole) - 2_000, 111):
        sound = Audio(whole[:num_samples])
        (one,) = retriever.embed([SegmentAudio(Segment(UUID(int=1), 500, 500 + num_samples, UUID(int=1)), sound)])
        assert all(500 <= word.start < word.end <= 500 + num_samples for word in one.words)


def test_a_spoken_question_is_heard_as_a_segment_is(retriever: ClsrRetriever, clips: list[SegmentAudio]) -> None:
    for clip, one in zip(clips, retriever.embed(clips), strict=True):
        asked = retriever.encode(Question(audio=clip.audio))
        assert asked.heard == asked.wording == join_words(one.words)
        np.testing.assert_array_equal(asked.vector, one.vector)


def test_typed_words_win_over_sound_and_what_was_heard_is_not_heard_again(
    retriever: ClsrRetriever, clips: list[SegmentAudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retriever, "_listener", lambda: pytest.fail("nobody should listen"))
    typed = retriever.encode(Question(audio=clips[0].audio, text="Is the water cold?", heard="cold"))
    assert (typed.wording, typed.heard) == ("Is the water cold?", "cold")
    np.testing.assert_array_equal(typed.vector, SentenceEncoder().encode(["is the water cold"])[0])
    assert retriever.encode(Question(audio=clips[0].audio, heard="as before")).wording == "as before"


def test_a_question_longer_than_a_minute_is_refused(retriever: ClsrRetriever) -> None:
    with pytest.raises(InvalidQuestion, match="at most 60 s, got 61 s"):
        retriever.encode(Question(audio=Audio(np.zeros(61 * 16_000, np.float32))))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Who won in 1995?", "who won in nineteen ninety five"),
        ("It’s Poincaré's café!", "it's poincare's cafe"),
        ("什么是水", "什么是水"),
    ],
)
def test_a_typed_question_is_encoded_as_it_would_be_heard(text: str, said: str) -> None:
    assert as_said(text) == said


def test_several_hypotheses_move_the_vector_towards_what_else_may_have_been_said(folder: Path) -> None:
    halves = say(["cold"]), say(["water"])
    size = min(map(len, halves))
    sound = Audio(np.float32(0.5) * (halves[0][:size] + halves[1][:size]))  # both at once
    best, several = (ClsrRetriever(Clsr(num_hypotheses=number), folder) for number in (1, 4))
    alone, mixed = (one.encode(Question(audio=sound)) for one in (best, several))
    hypotheses = several._listener().hear([sound], 4)[0]
    assert len(hypotheses) > 1
    vectors = SentenceEncoder().encode([one.text for one in hypotheses])
    shares = np.exp(0.3 * np.array([one.score for one in hypotheses]))
    expected = (shares / shares.sum()) @ vectors
    np.testing.assert_allclose(mixed.vector, expected / np.linalg.norm(expected), atol=1e-5)
    assert mixed.heard == alone.heard
    assert best.fingerprint != several.fingerprint
    assert not np.allclose(mixed.vector, alone.vector)


def test_few_segments_are_read_ahead_and_closing_stops_the_reading(
    retriever: ClsrRetriever, clips: list[SegmentAudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clsr, "GROUP_SAMPLES", 16_000)  # each alone
    read: list[int] = []

    def endless() -> Iterator[SegmentAudio]:
        while True:
            read.append(1)
            yield clips[3]

    embedding = retriever.embed(endless())
    for number in range(1, 8):
        next(embedding)
        in_search = number + 2 + 1 + 1  # in two threads, one ahead, and one that ended the group before it
        assert len(read) <= in_search + 2 + clsr.SEGMENTS_AHEAD  # in the network's two threads, and ahead of the search
    embedding.close()
    before = len(read)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("listening")]
    assert len(read) == before


def test_an_error_of_a_thread_reaches_the_reader() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise KeyError(number)
        return number

    results = in_order(range(10), work, 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_results_come_in_order_though_threads_end_in_another(num_threads: int) -> None:
    waits = [threading.Event() for _ in range(2 * num_threads)]
    waits[-1].set()

    def work(number: int) -> int:
        if number + 1 < len(waits) and (number + 1) % num_threads:
            waits[number + 1].wait(10)  # the one before in the same batch ends after the one behind it
        waits[number].set()
        return number

    assert list(in_order(range(len(waits)), work, num_threads)) == list(range(len(waits)))


def test_the_fingerprint_changes_with_every_file_and_setting_and_with_nothing_else(folder: Path, tmp_path: Path) -> None:
    first = ClsrRetriever(Clsr(), folder).fingerprint
    again = write_model(tmp_path / "again")
    assert ClsrRetriever(Clsr(num_threads=3, lexical_weight=0.9), again).fingerprint == first
    others = {first}
    for name in (NETWORK, pronunciations.FILE_NAME, ngram_model.FILE_NAME):
        config = json.loads((again / "config.json").read_text())
        config["files"][name] = "0" * 64
        (again / "config.json").write_text(json.dumps(config))
        others.add(ClsrRetriever(Clsr(), again).fingerprint)
    others.add(ClsrRetriever(Clsr(), write_model(tmp_path / "set", {"search.language_weight": 0.9})).fingerprint)
    assert len(others) == 5


@pytest.mark.parametrize("name", [NETWORK, pronunciations.FILE_NAME, ngram_model.FILE_NAME])
@pytest.mark.parametrize("is_absent", [True, False])
def test_an_absent_or_altered_file_is_named(tmp_path: Path, name: str, is_absent: bool) -> None:
    folder = write_model(tmp_path / "tones")
    (folder / name).unlink() if is_absent else (folder / name).write_bytes(b"altered")
    with pytest.raises(ModelFilesMissing, match=name):
        ClsrRetriever(Clsr(), folder).encode(Question(audio=Audio(np.zeros(16_000, np.float32))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phones": "a b c"}, "of the phones 'a b c'"),
        ({"search.width": 4.0}, "sets search.width to 4.0"),
        ({"search.beam": "wide"}, "sets search.beam to 'wide'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, settings: Mapping[str, float | str], message: str) -> None:
    retriever = ClsrRetriever(Clsr(), write_model(tmp_path / "tones", settings))
    with pytest.raises(ModelFilesMissing, match=message):
        retriever.encode(Question(audio=Audio(np.zeros(16_000, np.float32))))


def test_the_language_is_the_one_that_was_trained(retriever: ClsrRetriever) -> None:
    assert retriever.language == "en"


def test_a_closed_retriever_can_be_used_again(retriever: ClsrRetriever, clips: list[SegmentAudio]) -> None:
    heard = retriever.encode(Question(audio=clips[0].audio)).heard
    retriever.close()
    assert retriever.encode(Question(audio=clips[0].audio)).heard == heard == "cold water"


def test_threads_may_ask_at_once(retriever: ClsrRetriever, clips: list[SegmentAudio]) -> None:
    expected = [join_words(one.words) for one in retriever.embed(clips)]
    tasks = list(range(len(clips))) * 4
    heard = list(in_order(tasks, lambda number: retriever.encode(Question(audio=clips[number].audio)).heard, 4))
    assert heard == [expected[number] for number in tasks]
