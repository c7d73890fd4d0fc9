"""Synthesises the spoken fixtures again: `python tests/data/make.py`. Needs flite and ffmpeg, like the demo lecture."""

import json
import wave
from pathlib import Path

from app.demo.make import VOICES, Paragraph, read_script, tell, to_pcm, write_opus
from retriever.domain import SAMPLE_RATE_HZ, Audio

FOLDER = Path(__file__).resolve().parent
BIT_RATE_BPS = 12_000
PAUSE_S = 1.0

LECTURE = """
LECTURER: A volcano is a mountain with fire inside. Deep in the earth, the heat turns stone into liquid. When gas builds up, the mountain explodes, and burning stones fall on the villages.
LECTURER: Good bread is made of flour, water, salt, and time. The baker prepares it in the evening and lets it rest all night. In the morning it goes into a very hot oven for forty minutes.
LECTURER: The human heart is a pump about the size of a fist. It beats one hundred thousand times every day, and it pushes blood through the arteries to every part of the body.
LECTURER: The first railroads carried coal from the mountains to the harbor. The engines burned coal to make steam. Soon the trains carried passengers as well, and the cities began to grow.
LECTURER: A violin has four strings made of steel. The musician moves a bow across the strings, and the wooden body makes the music louder. A violin from Italy can cost several million dollars.
"""  # noqa: E501
QUESTIONS = {
    "short_question.wav": "How many times does the human heart beat every day?",
    "off_topic_question.wav": "What is the largest planet of the solar system?",
}


def make_lecture() -> None:
    paragraphs = read_script(LECTURE)
    talk = tell(paragraphs, PAUSE_S)
    write_opus(FOLDER / "short_lecture.opus", Audio(talk.samples), BIT_RATE_BPS)
    entries = [
        {
            "text": " ".join(sentence.text for sentence in sentences),
            "start_s": round(sentences[0].span.start_s, 2),
            "end_s": round(sentences[-1].span.end_s, 2),
        }
        for sentences in talk.paragraphs
    ]
    record = {"voice": VOICES["LECTURER"], "num_samples": len(talk.samples), "paragraphs": entries}
    (FOLDER / "short_lecture.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def make_question(name: str, text: str) -> None:
    pcm = to_pcm(Audio(tell([Paragraph("ASKER", (text,))]).samples))
    with wave.open(str(FOLDER / name), "wb") as sound:
        sound.setparams((1, 2, SAMPLE_RATE_HZ, len(pcm), "NONE", "not compressed"))
        sound.writeframes(pcm.tobytes())


if __name__ == "__main__":
    make_lecture()
    for name, text in QUESTIONS.items():
        make_question(name, text)
