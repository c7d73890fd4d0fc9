from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from retriever.audio import read_audio
from retriever.build import build_fusion, build_retriever, build_segmenter
from retriever.cascade import CascadeRetriever
from retriever.config import AudioLimits, Cascade, FixedWindows, SpeechPauses
from retriever.domain import Audio, Question
from retriever.errors import InvalidQuestion, ModelFilesMissing
from retriever.fusion import Fusion
from retriever.segmentation import PauseSegmenter, WindowSegmenter
from retriever.sentence_encoder import SentenceEncoder


@pytest.fixture(scope="module")
def cascade() -> Iterator[CascadeRetriever]:
    retriever = CascadeRetriever(Cascade(num_workers=1))
    yield retriever
    retriever.close()


@pytest.fixture(scope="module")
def spoken(speak: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Audio:
    path = speak("my mother bought a new house", tmp_path_factory.mktemp("spoken") / "q.wav", words_per_minute=140)
    return read_audio(path, AudioLimits(), 60)


def test_a_spoken_question_is_searched_by_what_was_heard(cascade: CascadeRetriever, spoken: Audio) -> None:
    encoded = cascade.encode(Question(audio=spoken))
    assert encoded.heard == encoded.wording == "my mother bought a new house"
    np.testing.assert_array_equal(encoded.vector, SentenceEncoder().encode([encoded.wording])[0])


def test_typed_words_win_over_sound(cascade: CascadeRetriever, spoken: Audio) -> None:
    encoded = cascade.encode(Question(audio=spoken, text="what is a volcano", heard="what is a cane"))
    assert (encoded.wording, encoded.heard) == ("what is a volcano", "what is a cane")


def test_what_was_heard_before_is_not_recognised_again(spoken: Audio) -> None:
    fresh = CascadeRetriever(Cascade())
    assert fresh.encode(Question(audio=spoken, heard="as before")).wording == "as before"
    assert fresh._ear is None


def test_a_question_without_speech_has_no_wording(cascade: CascadeRetriever) -> None:
    encoded = cascade.encode(Question(audio=Audio(np.zeros(16_000, np.float32))))
    assert (encoded.wording, encoded.heard) == ("", "")
    assert float(np.linalg.norm(encoded.vector)) == pytest.approx(1.0, abs=1e-5)


def test_a_spoken_question_of_more_than_a_minute_is_refused(cascade: CascadeRetriever) -> None:
    with pytest.raises(InvalidQuestion, match=r"at most 60 s, got 61 s"):
        cascade.encode(Question(audio=Audio(np.zeros(61 * 16_000, np.float32))))


def test_the_fingerprint_names_everything_that_shapes_words_and_vectors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = CascadeRetriever(Cascade()).fingerprint
    assert first == CascadeRetriever(Cascade(num_workers=3, lexical_weight=0.9)).fingerprint
    assert first.startswith("cascade-")
    (tmp_path / first).mkdir()  # fit for a folder's name
    monkeypatch.setattr("retriever.recognition.SETTINGS", {"loglevel": "FATAL", "lw": 9.0})
    assert CascadeRetriever(Cascade()).fingerprint != first


def test_a_changed_weight_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = CascadeRetriever(Cascade()).fingerprint
    (tmp_path / "config.json").write_text('{"dimension": 384, "max_tokens": 256, "files": {"model.onnx": "00"}}')
    monkeypatch.setattr("retriever.cascade.MINILM", tmp_path)
    assert CascadeRetriever(Cascade()).fingerprint != first


def test_missing_weights_are_noticed_when_the_retriever_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("retriever.cascade.MINILM", tmp_path)
    with pytest.raises(ModelFilesMissing, match="git checkout"):
        build_retriever(Cascade())


def test_records_choose_the_implementation() -> None:
    assert isinstance(build_retriever(Cascade()), CascadeRetriever)
    assert isinstance(build_segmenter(SpeechPauses()), PauseSegmenter)
    assert isinstance(build_segmenter(FixedWindows()), WindowSegmenter)
    assert build_fusion(Cascade(lexical_weight=0.7, gram_weight=0.3, num_candidates=9)) == Fusion(0.7, 9, 0.3)
