"""The runner, its report and the command, on real speech and the real retriever."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import soundfile

from app.cli import run
from app.errors import CommandMisused
from app.evaluation.domain import Context
from app.evaluation.listening import lecture_id, run_id
from app.evaluation.report import commit, short_segmentation
from app.evaluation.results import difference, side_result
from app.evaluation.runner import SPOKEN, Plan, Runner
from app.evaluation.sets.loading import load_set
from app.evaluation.sides import ALL_SIDES, CHARACTERS, DENSE, FUSED, WORDS, score
from app.evaluation.sounds import Noise
from app.evaluation.systems import parse_systems
from app.evaluation.words import hear
from app.settings import Settings
from retriever.config import FixedWindows, SpeechPauses
from retriever.domain import EmbeddedSegment, EncodedQuestion, Segment, Word
from retriever.fusion import Fusion
from retriever.index import SegmentIndex
from retriever.metrics import word_error_rate

SENTENCES = {
    "heart": "The human heart beats about one hundred thousand times every day.",
    "moon": "The moon moves around the earth once in twenty seven days.",
}
QUESTIONS = {"heart": "How many times does the heart beat in a day?", "moon": "How long does the moon need around the earth?"}

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


def embedded(vectors: np.ndarray, texts: list[str], lecture: int) -> list[EmbeddedSegment]:
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    here = UUID(int=lecture)
    return [EmbeddedSegment(Segment(here, n, n + 1, here), unit[n], (Word(text, n, n + 1),), "made") for n, text in enumerate(texts)]


def made_up(seed: int) -> tuple[list[EncodedQuestion], list[list[EmbeddedSegment]]]:
    draw = np.random.default_rng(seed)
    words = ["bee", "wax", "hive", "dance", "queen", "honey"]
    contexts = []
    for number in range(5):
        num_segments = int(draw.integers(0, 4)) if number else 2
        texts = [" ".join(draw.choice(words, 4)) for _ in range(num_segments)]
        contexts.append(embedded(draw.normal(size=(num_segments, 8)), texts, number + 1) if num_segments else [])
    vectors = draw.normal(size=(6, 8))
    questions = [EncodedQuestion((row / np.linalg.norm(row)).astype(np.float32), " ".join(draw.choice(words, 2)), None) for row in vectors]
    return questions, contexts


@pytest.mark.parametrize("seed", range(4))
def test_the_dense_side_is_the_best_cosine_of_each_contexts_segments(seed: int) -> None:
    questions, contexts = made_up(seed)
    found = score(questions, contexts, Fusion()).sides[DENSE]
    for row, question in enumerate(questions):
        for column, segments in enumerate(contexts):
            cosines = [float(one.vector @ question.vector) for one in segments]
            assert found[row, column] == pytest.approx(max(cosines, default=-np.inf), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_fused_side_ranks_as_the_index_does(seed: int) -> None:
    questions, contexts = made_up(seed)
    index = SegmentIndex.create("made", 8, Fusion())
    index.add([one for context in contexts for one in context])
    lectures = {one.segment.lecture_id: number for number, context in enumerate(contexts) for one in context}
    fused = score(questions, contexts, Fusion()).sides[FUSED]
    for row, question in enumerate(questions):
        hits = index.search(question, 100, lectures)
        order = list(dict.fromkeys(lectures[hit.segment.lecture_id] for hit in hits))
        best = np.argsort(-fused[row], kind="stable")[: len(order)]
        assert fused[row][order] == pytest.approx(fused[row][best])


def test_words_and_characters_see_what_is_written() -> None:
    draw = np.random.default_rng(0)
    contexts = [embedded(draw.normal(size=(1, 4)), [text], n + 1) for n, text in enumerate(["photosynthesis", "photo sin thesis", "bees"])]
    questions = [EncodedQuestion(np.eye(4, dtype=np.float32)[0], "photosynthesis", None)]
    sides = score(questions, contexts, Fusion()).sides
    assert sides[WORDS][0, 0] > 0
    assert sides[WORDS][0, 1] == 0  # no such word was heard
    assert sides[CHARACTERS][0, 0] > sides[CHARACTERS][0, 1] > sides[CHARACTERS][0, 2]


def test_what_hears_no_words_is_ranked_by_its_vectors_alone() -> None:
    questions, contexts = made_up(2)
    wordless = [[replace(one, words=()) for one in segments] for segments in contexts]
    sides = score(questions, wordless, Fusion()).sides
    for fused, dense in zip(sides[FUSED], sides[DENSE], strict=True):
        found = np.isfinite(dense)
        assert np.argsort(-fused[found], kind="stable").tolist() == np.argsort(-dense[found], kind="stable").tolist()
    assert not sides[WORDS][np.isfinite(sides[WORDS])].any()


def test_a_context_without_segments_is_never_found() -> None:
    questions, contexts = made_up(1)
    contexts[3] = []
    for scores in score(questions, contexts, Fusion()).sides.values():
        found = side_result(scores, np.full(len(questions), 3))
        assert found.context.r10 == 0.0
        assert set(found.ranks) == {None}


def test_a_system_differs_from_itself_by_nothing() -> None:
    ranks = [1, 2, None, 1]
    found = difference(ranks, ranks, [0, 0, 1, 1])
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def flite(text: str, path: Path) -> float:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["flite", "-voice", "rms", "-t", text, "-o", str(path)], check=True, capture_output=True)
    return float(soundfile.info(path).duration)


@pytest.fixture(scope="module")
def spoken_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    contexts, questions = [], []
    for name, text in SENTENCES.items():
        seconds = flite(text, folder / "audio" / f"{name}.wav")
        flite(QUESTIONS[name], folder / "audio" / f"{name}-q.wav")
        words = text.lower().rstrip(".").split()
        step = int(seconds * 16_000) // len(words)  # evenly is good enough to know in which segment a word lies
        said = [[word, n * step, (n + 1) * step] for n, word in enumerate(words)]
        contexts.append({"id": name, "title": name, "text": text, "audio": [f"audio/{name}.wav"], "said": said})
        questions.append({"id": f"{name}-q", "text": QUESTIONS[name], "context": name, "audio": [f"audio/{name}-q.wav"]})
    for name, rows in (("contexts", contexts), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@needs_flite
def test_systems_hear_the_same_segments_and_their_work_is_kept(spoken_set: Path, tmp_path: Path) -> None:
    told: list[str] = []
    runner = Runner(load_set(str(spoken_set)), tmp_path / "work", told.append)
    systems = tuple(parse_systems("text,cascade+num_workers=1", Settings(home=tmp_path)))
    plan = Plan(systems, (SpeechPauses(),), forms=("typed", "spoken"))
    outcomes, differences = runner.run(plan)
    text, cascade = outcomes
    assert text.num_segments == cascade.num_segments == 2
    assert text.forms["typed"].sides[FUSED].context.r1 == 1.0
    assert text.errors is None
    assert text.speed is None
    assert cascade.errors is not None
    assert cascade.errors.num_words == sum(len(text.split()) for text in SENTENCES.values())
    assert cascade.errors.rate < 0.9  # it hears something of what is said
    assert cascade.forms["spoken"].errors is not None
    assert cascade.speed is not None
    assert cascade.speed.recogniser.cpu_s > 0
    assert cascade.speed.audio_s > 5
    assert [(one.other, one.side, one.form) for one in differences if one.system != one.other] == [
        ("text", side, form) for side in (FUSED, DENSE) for form in ("typed", "spoken")
    ]
    within = [(one.system, one.other_side) for one in differences if one.system == one.other and one.form == "typed"]
    assert within == [(outcome.system, side) for outcome in outcomes for side in ALL_SIDES if side != FUSED]
    for one in differences:
        left, right = (next(it for it in outcomes if it.system == name).forms[one.form].sides for name in (one.system, one.other))
        assert one.interval.mean == pytest.approx(left[one.side].context.r1 - right[one.other_side].context.r1)
    kept = {path: path.read_bytes() for path in (tmp_path / "work").iterdir()}
    again, _ = Runner(load_set(str(spoken_set)), tmp_path / "work", told.append).run(plan)
    assert {path: path.read_bytes() for path in (tmp_path / "work").iterdir()} == kept
    assert [one.forms["typed"].sides for one in again] == [one.forms["typed"].sides for one in outcomes]


@needs_flite
def test_word_errors_of_clips_are_those_of_what_was_heard(spoken_set: Path, tmp_path: Path) -> None:
    (system,) = parse_systems("cascade+num_workers=1", Settings(home=tmp_path))
    clips = load_set(str(spoken_set)).contexts[:1]
    errors, cpu = hear(system, clips, tmp_path / "work")
    assert errors is not None
    (kept,) = (json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "work").glob("clips-*.jsonl"))
    heard = [word for segment in kept["segments"] for word, *_ in segment["words"]]
    assert errors.rate == pytest.approx(word_error_rate(SENTENCES["heart"].lower().rstrip(".").split(), heard))
    assert cpu > 0


@needs_flite
def test_the_command_writes_report_and_plots(
    spoken_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASKALOUD_HOME", str(tmp_path / "home"))
    out = tmp_path / "out"
    given = ["evaluate", "--data", str(spoken_set), "--systems", "text,text-whole", "--segmentations", "pauses,windows:3", "-o", str(out)]
    assert run(given) == 0
    report = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert report["set"]["num_questions"] == 2
    assert len(report["set"]["sha256"]) == 64
    assert report["commit"] == commit()
    assert [(one["system"], short_segmentation(one["segmentation"])) for one in report["outcomes"]] == [
        ("text", "pauses"),
        ("text", "3 s"),
        ("text-whole", "pauses"),
    ]
    assert set(report["outcomes"][0]["forms"]["typed"]["sides"]) == set(ALL_SIDES)
    assert {path.name for path in out.glob("*.svg")} == {"recall.svg", "sides.svg", "recall-by-segments.svg"}
    assert all(path.read_text(encoding="utf-8").rstrip().endswith("</svg>") for path in out.glob("*.svg"))
    printed = capsys.readouterr().out
    assert "| text | pauses | clean | typed |" in printed
    rows = [line.split(" | ") for line in printed.split("## Everything")[0].splitlines() if line.startswith("| text")]
    assert [row[0] for row in rows] == ["| text", "| text-whole"]
    gap = next(one["interval"] for one in report["differences"] if one["side"] == FUSED and one["other"] == "text")
    assert rows[0][-1] == f"{100 * gap['mean']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}] |"
    assert rows[1][-1] == "– |"  # nothing is compared with itself
    assert "text, by segments:\n\n| segments | words wrong | typed |" in printed
    assert "by noise" not in printed


def test_curves_are_run_for_the_systems_that_are_named(tmp_path: Path) -> None:
    systems = tuple(parse_systems("text,clsr,cascade", Settings(home=tmp_path)))
    segmentations, noises = (SpeechPauses(), FixedWindows(window_s=10)), (Noise(), Noise(5.0))
    text, _, cascade = systems
    every = Plan(systems, segmentations, noises)
    assert [len(list(every.conditions(system))) for system in systems] == [2, 3, 3]
    some = Plan(systems, segmentations, noises, curves=frozenset({"clsr"}))
    assert [len(list(some.conditions(system))) for system in systems] == [1, 3, 1]
    assert list(some.conditions(cascade)) == [(segmentations[0], noises[0])] == list(some.conditions(text))
    with pytest.raises(CommandMisused, match="curves are asked of clear"):
        Plan(systems, segmentations, noises, curves=frozenset({"clear"}))


def test_a_set_without_sound_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": name, "title": "", "context": text, "question": QUESTIONS[name]} for name, text in SENTENCES.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    runner = Runner(load_set(str(path)), tmp_path / "work", lambda line: None)
    settings = Settings(home=tmp_path)
    (outcome,), _ = runner.run(Plan(tuple(parse_systems("text-whole", settings)), (SpeechPauses(),)))
    assert outcome.forms["typed"].sides[FUSED].context.r1 == 1.0
    with pytest.raises(CommandMisused, match="no sound"):
        runner.run(Plan(tuple(parse_systems("cascade", settings)), (SpeechPauses(),)))
    with pytest.raises(CommandMisused, match="not spoken"):
        runner.run(Plan(tuple(parse_systems("text-whole", settings)), (SpeechPauses(),), forms=(SPOKEN,)))


def test_noise_and_segments_are_curves_and_no_grid(tmp_path: Path) -> None:
    text, whole, cascade = parse_systems("text,text-whole,cascade", Settings(home=tmp_path))
    plan = Plan((text, whole, cascade), (SpeechPauses(), FixedWindows()), (Noise(), Noise(10.0), Noise(5.0)))
    assert len(list(plan.conditions(cascade))) == 4
    assert len(list(plan.conditions(text))) == 2
    assert len(list(plan.conditions(whole))) == 1


def test_segments_of_different_contexts_never_share_a_number() -> None:
    contexts = [Context(name, "", (), text) for name, text in SENTENCES.items()]
    assert len({lecture_id(context) for context in contexts}) == len(contexts)
    assert len({Segment(lecture_id(context), 0, 1, run_id(context, "whole")).id for context in contexts}) == len(contexts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "absent"], "neither a folder nor a file"),
        (["--data", ".", "--questions", "sung"], "typed, spoken"),
        (["--data", ".", "--segmentations", "words"], "no segmentation"),
        (["--data", ".", "--noise", "loud"], "no number"),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASKALOUD_HOME", str(tmp_path))
    assert run(["evaluate", *options, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
