"""The shipped reader runs without torch, with the text encoder's token table and no other."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from generator.build import build_generator
from generator.config import Reader
from generator.reading import READER, ReadingNet, shipped_reader
from generator.spoken_form import spoken_form
from retriever.domain import Question
from retriever.errors import ModelFilesMissing

HEART = (
    "The human heart is a pump about the size of a fist. It beats one hundred thousand times every day. "
    "It pushes blood through the arteries."
)
PASSAGE = spoken_form(HEART)


def best_words(question, passage):
    (scored,) = shipped_reader().read(spoken_form(question), passage)
    first, last = int(scored.starts.argmax()), int(scored.ends.argmax())
    return " ".join(passage[first : last + 1])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the size of the heart?", "fist"),
        ("How many times does the heart beat every day?", "one hundred thousand"),
        ("What does the heart push?", "blood"),
    ],
)
def test_it_marks_the_words_that_answer(question, answer):
    assert answer in best_words(question, PASSAGE)


def test_a_question_on_something_else_scores_lower_than_one_that_is_answered():
    tops = [
        sum(float(edge.max()) for edge in (scored.starts, scored.ends))
        for question in ("How many times does the heart beat every day?", "Who wrote the constitution of Poland?")
        for scored in shipped_reader().read(spoken_form(question), PASSAGE)
    ]
    assert tops[0] > 0 > tops[1]


def test_every_word_of_a_long_passage_is_scored_and_none_depends_on_far_ones():
    net = shipped_reader()
    long = PASSAGE * 20
    scored = net.read(["why"], long)
    covered = {scored_one.first + place for scored_one in scored for place in range(len(scored_one.starts))}
    assert covered == set(range(len(long)))
    again = net.read(["why"], [*long, "extra", "words"])
    np.testing.assert_array_equal(scored[0].starts, again[0].starts)


def test_a_text_encoder_with_another_token_table_is_refused(tmp_path):
    folder = tmp_path / "reader-en"
    shutil.copytree(READER, folder)
    config = json.loads((folder / "config.json").read_text())
    config["token_table_sha256"] = "0" * 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFilesMissing, match="token table"):
        ReadingNet(folder)


def test_altered_weights_are_refused(tmp_path):
    folder = tmp_path / "reader-en"
    shutil.copytree(READER, folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelFilesMissing, match="altered"):
        ReadingNet(folder)


def test_the_added_weights_are_small():
    assert sum(path.stat().st_size for path in READER.iterdir()) <= 12_000_000


def test_answering_loads_no_torch():
    code = (
        "import sys; from generator.reading import shipped_reader; shipped_reader().read(['why'], ['because']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def generator():
    return build_generator(Reader(), "cascade")


def test_a_question_that_is_too_long_says_so(generator, make_words, make_evidence):
    answer = generator.answer(Question(text="why does the heart beat " * 60), [make_evidence(make_words(HEART))])
    assert not answer.supported
    assert "fewer words" in answer.text
    assert answer.nearest


def test_the_answer_is_played_alone_and_then_where_it_stands(generator, make_words, make_evidence):
    evidence = [make_evidence(make_words(HEART))]
    answer = generator.answer(Question(text="How many times does the heart beat every day?"), evidence)
    assert answer.supported
    exact, around = answer.citations[:2]
    assert answer.text.strip("“”").lower() == exact.text
    assert "one hundred thousand" in exact.text
    assert around.text == "it beats one hundred thousand times every day"
    assert answer.model == "reader"
    assert shipped_reader().name in json.loads(answer.settings)["calibration"]
