"""Each loader on a few files in the layout in which the set is published."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.errors import DataSetUnusable
from app.evaluation.domain import Context, EvaluationSet, SetQuestion
from app.evaluation.sets import librisqa, odsqa, slue_sqa5, spoken_squad
from app.evaluation.sets.loading import load_set
from retriever.domain import Word


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(160, np.float32), 16_000)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def squad(paragraphs: list[tuple[str, str, list[tuple[str, str, int]]]]) -> dict[str, object]:
    """Nest as SQuAD does: one article of paragraphs (id, context, questions (id, text, start of the answer))."""
    return {
        "version": "1.1",
        "data": [
            {
                "title": "Bees",
                "paragraphs": [
                    {
                        "id": name,
                        "context": context,
                        "qas": [
                            {"id": one, "question": text, "answers": [{"answer_start": start, "text": context[start : start + 3]}]}
                            for one, text, start in questions
                        ],
                    }
                    for name, context, questions in paragraphs
                ],
            }
        ],
    }


WAX = "bees make wax. they dance. the hive hums"
ROBBED = "wasps rob the hive. bees fight"


@pytest.fixture
def squad_folder(tmp_path: Path) -> Path:
    asked = squad(
        [
            ("0-0", WAX, [("q1", "What do bees make?", 10), ("q2", "Who makes wax?", 0), ("q3", "What hums?", 31)]),
            ("0-1", ROBBED, [("q4", "Who robs?", 0)]),
        ]
    )
    write_json(tmp_path / "spoken_test-v1.1.json", asked)
    for name in ("0_0_0", "0_0_1", "0_0_2", "0_1_0", "0_1_1"):
        sound(tmp_path / "dev_wav" / f"{name}.wav")
    return tmp_path


def test_spoken_squad_has_a_paragraph_of_all_its_sentences_for_each_question(squad_folder: Path) -> None:
    found = load_set(str(squad_folder))
    assert found.name == "Spoken-SQuAD"
    assert [question.context_id for question in found.questions] == ["0_0", "0_0", "0_0", "0_1"]
    assert [path.name for path in found.contexts[0].sounds] == ["0_0_0.wav", "0_0_1.wav", "0_0_2.wav"]
    assert found.contexts[1].text == ROBBED


def test_what_a_recogniser_wrote_is_no_reference_unless_the_original_is_there(squad_folder: Path) -> None:
    assert not load_set(str(squad_folder)).contexts[0].is_reference
    true = squad([("", "Bees make wax. They dance! The hive hums.", [("q1", "What do bees make?", 10)])])
    write_json(squad_folder / "dev-v1.1.json", true)
    context = load_set(str(squad_folder)).contexts[0]
    assert context.is_reference
    assert context.text is not None
    assert "dance!" in context.text


def test_the_starred_set_keeps_the_first_question_of_each_sentence_with_an_answer(squad_folder: Path) -> None:
    found = load_set(f"spoken-squad-sentences:{squad_folder}")
    assert [context.id for context in found.contexts] == ["0_0_0", "0_0_2", "0_1_0"]
    assert [context.text for context in found.contexts] == ["bees make wax", "the hive hums", "wasps rob the hive"]
    assert [question.id for question in found.questions] == ["q1", "q3", "q4"]
    assert all(path.stem == context.id for context in found.contexts for path in context.sounds)


def test_a_sentence_without_its_sound_is_refused_by_name(squad_folder: Path) -> None:
    (squad_folder / "dev_wav" / "0_0_2.wav").unlink()
    with pytest.raises(DataSetUnusable, match=r"0_0_2\.wav"):
        spoken_squad.load_sentences(squad_folder)


def test_a_question_without_an_answer_is_left_out(squad_folder: Path) -> None:
    content = squad([("0-0", WAX, [("q1", "What do bees make?", 10), ("q2", "Who?", 0)])])
    content["data"][0]["paragraphs"][0]["qas"][1]["answers"] = []  # type: ignore[index]
    write_json(squad_folder / "spoken_test-v1.1.json", content)
    assert [question.id for question in spoken_squad.load(squad_folder).questions] == ["q1"]


def test_librisqa_finds_its_utterances_in_librispeech(tmp_path: Path) -> None:
    rows = [
        {
            "speech_path": "LibriSpeech/test-clean/1/2/1-2-0000.wav",
            "question": "Who?",
            "answer": "Ann.",
            "text": "ANN SAT",
            "duration": 1.5,
        },
        {"speech_path": "test-clean/1/2/1-2-0001.flac", "question": "Where?", "answer": "Here.", "text": "HERE", "duration": 2.5},
    ]
    write_json(tmp_path / librisqa.QUESTIONS, rows)
    for number in range(2):
        sound(tmp_path / "LibriSpeech" / "test-clean" / "1" / "2" / f"1-2-000{number}.flac")
    found = load_set(str(tmp_path))
    assert [context.id for context in found.contexts] == ["1-2-0000", "1-2-0001"]
    assert all(path.suffix == ".flac" for context in found.contexts for path in context.sounds)
    assert found.contexts[0].text == "ANN SAT"
    assert found.questions[1].context_id == "1-2-0001"
    assert not found.has_spoken_questions


def slue_folder(folder: Path) -> Path:
    header = ["question_id", "question", "normalized_question", "speaker", "document_id", "document", "normalized_document", "x", "y", "z"]
    rows = [
        ["trivia-1", 'Who "made" it?', "who made it", "s1", "d 1", "Bees, mostly.", "bees mostly", "", "", "[]"],
        ["nq-7", "When?", "when", "s2", "d 1", "Bees, mostly.", "bees mostly", "", "", "[]"],
    ]
    text = "\n".join("\t".join(row) for row in [header, *rows]) + "\n"
    (folder / "slue-sqa5_test.tsv").write_text(text, encoding="utf-8")
    for name in ("question/trivia-1", "question/nq-7", "document/d 1"):
        sound(folder / "test" / f"{name}.wav")
    times = folder / "test" / "word2time" / "d 1.txt"
    times.parent.mkdir()
    times.write_text("Bees\tbees\t0.10\t0.50\n,\nmostly\tmostly\t0.60\t1.00\n.\n", encoding="utf-8")
    return folder


def test_slue_has_spoken_questions_over_documents_with_word_times(tmp_path: Path) -> None:
    found = load_set(str(slue_folder(tmp_path)))
    assert found.has_sound
    assert found.has_spoken_questions
    assert [question.text for question in found.questions] == ['Who "made" it?', "When?"]
    (context,) = found.contexts
    assert context.text == "bees mostly"
    assert context.said == (Word("bees", 1_600, 8_000), Word("mostly", 9_600, 16_000))


def test_slue_without_word_times_still_has_its_text(tmp_path: Path) -> None:
    folder = slue_folder(tmp_path)
    (folder / "test" / "word2time" / "d 1.txt").unlink()
    assert slue_sqa5.load(folder).contexts[0].said == ()


def test_a_slue_table_with_too_few_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slue-sqa5_dev.tsv").write_text("a\tb\n1\t2\n", encoding="utf-8")
    with pytest.raises(DataSetUnusable, match="2 columns"):
        slue_sqa5.load(tmp_path, "dev")


STOP = "\u3002"
MANDARIN = f"\u8702\u9020\u8721{STOP}\u5b83\u8df3\u821e{STOP}"


@pytest.fixture
def odsqa_folder(tmp_path: Path) -> Path:
    asked = squad([("1147-5", MANDARIN, [("1147-5-1", "\u8ab0?", 0), ("1147-5-2", "\u4f55?", 1), ("1147-5-3", "\u8df3?", 5)])])
    write_json(tmp_path / odsqa.QUESTIONS, asked)
    for name in ("document/1147-5-0", "document/1147-5-1", "question/1147-5-1", "question/1147-5-3"):
        sound(tmp_path / f"{name}.wav")
    return tmp_path


def test_odsqa_has_paragraphs_of_sentences_in_mandarin(odsqa_folder: Path) -> None:
    found = load_set(str(odsqa_folder))
    assert found.language == "zh"
    assert len(found.questions) == 3
    assert [len(context.sounds) for context in found.contexts] == [2]
    assert not found.has_spoken_questions  # one of the three has no sound


def test_drcd_starred_is_one_question_for_each_sentence(odsqa_folder: Path) -> None:
    found = load_set(f"drcd-sentences:{odsqa_folder}")
    assert [context.id for context in found.contexts] == ["1147-5-0", "1147-5-1"]
    assert [question.id for question in found.questions] == ["1147-5-1", "1147-5-3"]
    assert found.has_spoken_questions


def json_lines_folder(folder: Path) -> Path:
    contexts = [
        {"id": "a", "title": "Bees", "text": "Bees make wax.", "audio": ["audio/a.flac"], "said": [["bees", 0, 80], ["make", 80, 120]]},
        {"id": "b", "text": "Wasps do not."},
    ]
    questions = [{"id": "q", "text": "Who?", "context": "a", "audio": ["audio/q.flac"]}]
    for name, rows in (("contexts", contexts), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("a", "q"):
        sound(folder / "audio" / f"{name}.flac")
    return folder


def test_our_own_layout_keeps_words_with_their_times(tmp_path: Path) -> None:
    found = load_set(str(json_lines_folder(tmp_path)))
    assert found.contexts[0].said == (Word("bees", 0, 80), Word("make", 80, 120))
    assert found.contexts[1].sounds == ()
    assert not found.has_sound
    assert found.has_spoken_questions


def test_a_file_of_questions_with_their_texts_is_a_set_without_sound(tmp_path: Path) -> None:
    rows = [{"id": n, "title": "T", "context": c, "question": "Q?", "answers": []} for n, c in (("1", "x"), ("2", "y"), ("3", "x"))]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = load_set(str(path))
    assert [context.text for context in found.contexts] == ["x", "y"]
    assert [question.context_id for question in found.questions] == ["c0", "c1", "c0"]


Break = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "contexts.jsonl").write_text("{no json\n"), "JSON lines"),
        (lambda folder: (folder / "contexts.jsonl").write_text('["a"]\n'), "no JSON object"),
        (lambda folder: (folder / "questions.jsonl").write_text('{"id": "q", "text": "Who?", "context": "zz"}\n'), "not in the set"),
        (lambda folder: (folder / "questions.jsonl").write_text('{"id": "q"}\n'), "layout"),
        (lambda folder: (folder / "audio" / "a.flac").unlink(), "a.flac"),
        (lambda folder: (folder / "questions.jsonl").unlink(), "questions.jsonl"),
    ],
)
def test_a_damaged_set_is_refused_with_its_reason(tmp_path: Path, damage: Break, message: str) -> None:
    folder = json_lines_folder(tmp_path)
    damage(folder)
    with pytest.raises(DataSetUnusable, match=message):
        load_set(str(folder))


def test_a_folder_that_is_no_set_is_told_which_layouts_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataSetUnusable, match="LAYOUT"):
        load_set(str(tmp_path))
    with pytest.raises(DataSetUnusable, match="neither"):
        load_set(str(tmp_path / "absent"))


def test_the_data_hash_changes_with_sound_text_and_pairing(tmp_path: Path) -> None:
    folder = json_lines_folder(tmp_path)
    first = load_set(str(folder)).data_hash()
    assert load_set(str(folder)).data_hash() == first
    soundfile.write(folder / "audio" / "a.flac", np.full(160, 0.5, np.float32), 16_000)
    second = load_set(str(folder)).data_hash()
    (folder / "questions.jsonl").write_text('{"id": "q", "text": "Who?", "context": "b", "audio": ["audio/q.flac"]}\n')
    assert len({first, second, load_set(str(folder)).data_hash()}) == 3


def test_a_part_of_a_set_is_spread_over_it_and_keeps_its_questions() -> None:
    contexts = tuple(Context(str(n), "", (), "text") for n in range(10))
    questions = tuple(SetQuestion(f"q{n}", "?", str(n)) for n in range(10))
    part = EvaluationSet("s", "en", contexts, questions).first(5)
    assert [context.id for context in part.contexts] == ["0", "2", "4", "6", "8"]
    assert [question.context_id for question in part.questions] == ["0", "2", "4", "6", "8"]
    assert "5 of 10" in part.name


def test_an_id_that_occurs_twice_is_refused() -> None:
    context = Context("a", "", (), "text")
    with pytest.raises(DataSetUnusable, match="twice"):
        EvaluationSet("s", "en", (context, context), (SetQuestion("q", "?", "a"),))
