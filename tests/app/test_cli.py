import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from app.build import build_app, build_parts
from app.cli import commands, run
from app.cli.recording import SaidAndDone, unfinished_recordings
from app.microphone import Recording
from app.settings import load_settings
from retriever.domain import SAMPLE_RATE_HZ

HEART_QUESTION = "How many times does the human heart beat every day?"
WAIT_S = 60.0
PLACE = {"lecture_id", "title", "start_s", "end_s"}

Call = Callable[..., "Called"]


class Called:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):  # type: ignore[no-untyped-def]
        """The one object on standard output."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on standard error, without its mark."""
        assert self.code == 2
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process."""

    def calling(*arguments: object) -> Called:
        capfd.readouterr()
        code = run([str(one) for one in arguments])
        out, err = capfd.readouterr()
        return Called(code, out, err)

    return calling


def in_a_process(*arguments: object) -> Called:
    """Run a command as users do."""
    command = [sys.executable, "-m", "app", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_S, stdin=subprocess.DEVNULL)
    return Called(done.returncode, done.stdout, done.stderr)


# The shapes that `--json` promises, from real processes


def test_ingest_prints_its_lectures_and_a_second_time_changes_nothing(
    home: Path, short_lecture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKALOUD_SEGMENTATION__KIND", "windows")
    folder = tmp_path / "term" / "week 1"
    folder.mkdir(parents=True)
    sound, rate = soundfile.read(short_lecture)
    soundfile.write(folder / "on_volcanoes.flac", sound[: 10 * rate], rate)
    (folder / "notes.txt").write_text("no sound")
    (folder / "broken.mp3").write_text("no sound either")
    first = in_a_process("ingest", tmp_path / "term", tmp_path / "absent.wav", "--json").json
    (lecture,) = first["lectures"]
    assert set(lecture) == {"id", "title", "duration_s", "num_segments", "seconds_taken", "new"}
    assert lecture["title"] == "on volcanoes"
    assert lecture["duration_s"] == pytest.approx(10, abs=0.1)
    assert lecture["num_segments"] == 1
    assert lecture["seconds_taken"] > 0
    assert lecture["new"] is True
    assert [set(error) for error in first["errors"]] == [{"path", "message"}] * 2
    assert {Path(error["path"]).name for error in first["errors"]} == {"broken.mp3", "absent.wav"}
    second = in_a_process("ingest", folder / "on_volcanoes.flac", "--json").json
    assert second == {"lectures": [lecture | {"new": False, "seconds_taken": second["lectures"][0]["seconds_taken"]}], "errors": []}
    assert second["lectures"][0]["seconds_taken"] == 0


def test_ask_prints_answer_citations_hits_and_times(home_with_lecture: Path) -> None:
    told = in_a_process("ask", "--text", HEART_QUESTION, "-k", 2, "--retriever", "clsr", "--generator", "extractive", "--json").json
    assert list(told) == ["question", "answer", "citations", "hits", "timings_ms"]
    assert told["question"] == {"text": HEART_QUESTION, "heard": None}
    assert set(told["answer"]) == {"text", "supported", "status", "model", "note"}
    assert told["answer"]["supported"] is True
    assert set(told["citations"][0]) == PLACE | {"text"}
    assert 28 < told["citations"][0]["start_s"] < told["citations"][0]["end_s"] < 41
    assert len(told["hits"]) == 2
    assert set(told["hits"][0]) == PLACE | {"segment_id", "score", "text"}
    assert "heart" in told["hits"][0]["text"]
    assert told["hits"][0]["title"] == "Short lecture"
    assert list(told["timings_ms"]) == ["encode", "search", "answer", "total"]
    assert told["timings_ms"]["total"] == pytest.approx(sum(told["timings_ms"][name] for name in ("encode", "search", "answer")), abs=0.01)


def test_a_spoken_question_is_asked_from_a_file(home_with_lecture: Path, short_question: Path) -> None:
    told = in_a_process("ask", "--audio", short_question, "--json").json
    assert told["question"]["text"] is None
    assert "heart" in told["question"]["heard"]
    assert told["answer"]["supported"] is True


def test_listen_prints_segments_with_words_and_times(home: Path, short_question: Path) -> None:
    told = in_a_process("listen", short_question, "--json").json
    (segment,) = told["segments"]
    assert set(segment) == {"start_s", "end_s", "text", "words"}
    assert segment["text"] == " ".join(word["text"] for word in segment["words"])
    for word in segment["words"]:
        assert set(word) == {"text", "start_s", "end_s"}
        assert segment["start_s"] <= word["start_s"] < word["end_s"] <= segment["end_s"]


def test_an_error_is_one_line_and_exit_code_2_and_no_traceback(home: Path) -> None:
    assert "add one" in in_a_process("ask", "--text", "anything", "--json").error
    assert "No such option" in in_a_process("ask", "--nonsense").error


# Asking


def test_search_is_ask_without_answer_and_history(call: Call, home_with_lecture: Path) -> None:
    told = call("search", "--text", HEART_QUESTION, "--json").json
    assert list(told) == ["question", "hits", "timings_ms"]
    assert list(told["timings_ms"]) == ["encode", "search", "total"]
    assert call("history", "--json").json == {"entries": [], "total": 0}


def test_the_answer_is_shown_with_numbered_moments(call: Call, home_with_lecture: Path) -> None:
    told = call("ask", "--text", HEART_QUESTION)
    assert told.code == 0
    assert "hundred thousand" in told.out.splitlines()[0]
    assert re.search(r"^1\. Short lecture 00:\d\d–00:\d\d$", told.out, re.MULTILINE)


def test_moments_that_do_not_answer_are_shown_as_such(call: Call, home_with_lecture: Path) -> None:
    told = call("ask", "--text", "What is the largest planet of the solar system?")
    assert "nearest moments" in told.out
    assert call("ask", "--text", "What is the largest planet of the solar system?", "--json").json["citations"] == []


def test_search_shows_what_it_heard_and_found(call: Call, home_with_lecture: Path, short_question: Path) -> None:
    told = call("search", "--audio", short_question, "-k", 1)
    assert told.err.startswith("heard: ")
    assert told.out.startswith("1. Short lecture 00:28–00:5")


@pytest.mark.parametrize("way", [(), ("--text", "a", "--record"), ("--text", "a", "--audio", "b.wav")])
@pytest.mark.parametrize("command", ["ask", "search"])
def test_a_question_is_put_in_exactly_one_way(call: Call, home: Path, command: str, way: tuple[str, ...]) -> None:
    assert "one way" in call(command, *way).error


def test_a_question_can_be_limited_to_a_lecture_by_the_beginning_of_its_id(call: Call, home_with_lecture: Path) -> None:
    (lecture,) = call("lectures", "--json").json["lectures"]
    assert call("search", "--text", "bread", "-l", lecture["id"][:6], "--json").json["hits"]
    assert call("search", "--text", "bread", "-l", lecture["id"], "--json").json["hits"]
    assert "no lecture has an id" in call("search", "--text", "bread", "-l", "zzz").error
    assert "no lecture has an id" in call("search", "--text", "bread", "-l", "").error


def test_an_ambiguous_id_is_refused(call: Call, home_with_lecture: Path) -> None:
    for text in ("bread", "fire", "heart"):
        call("ask", "--text", text)
    ids = [entry["id"] for entry in call("history", "--json").json["entries"]]
    shared = [one[0] for one in ids]
    if len(set(shared)) == len(shared):  # ids are random: ask until two begin alike
        while len(set(shared)) == len(shared):
            call("ask", "--text", "bread")
            shared = [entry["id"][0] for entry in call("history", "--json").json["entries"]]
    double = next(one for one in shared if shared.count(one) > 1)
    assert "give more of it" in call("delete", "question", double, "--yes").error


@pytest.mark.parametrize(("option", "known"), [("--retriever", "cascade"), ("--generator", "extractive")])
def test_an_unknown_kind_is_refused_with_the_kinds_there_are(call: Call, home: Path, option: str, known: str) -> None:
    error = call("ask", "--text", "a", option, "oracle").error
    assert "'oracle'" in error
    assert known in error


@pytest.mark.parametrize("number", ["0", "51", "x"])
def test_a_number_of_hits_out_of_range_is_refused(call: Call, home: Path, number: str) -> None:
    assert "-k" in call("ask", "--text", "a", "-k", number).error


def test_an_empty_question_is_refused(call: Call, home_with_lecture: Path) -> None:
    assert "needs words or sound" in call("ask", "--text", "  ").error


def test_a_sound_that_is_too_long_for_a_question_is_refused(call: Call, home_with_lecture: Path, short_lecture: Path) -> None:
    error = call("ask", "--audio", short_lecture).error
    assert "60 s at most" in error
    assert "split" not in error


# Listening


def test_speechless_sound_gives_an_empty_list_and_exit_code_0(call: Call, home: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * SAMPLE_RATE_HZ, np.float32), SAMPLE_RATE_HZ)
    assert call("listen", tmp_path / "silence.wav", "--json").json == {"segments": []}
    told = call("listen", tmp_path / "silence.wav", "--format", "srt")
    assert (told.code, told.out) == (0, "")
    assert "nobody speaks" in told.err


@pytest.mark.parametrize(("kind", "begins"), [("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n\n00:00:00."), ("txt", "[00:00] ")])
def test_what_is_heard_can_be_printed_as_subtitles(call: Call, home: Path, short_question: Path, kind: str, begins: str) -> None:
    told = call("listen", short_question, "--format", kind)
    assert told.code == 0
    assert told.out.startswith(begins)
    assert "heart" in told.out


def test_listening_to_what_is_no_sound_is_an_error(call: Call, home: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.mp3").write_text("not sound")
    assert "notes.mp3" in call("listen", tmp_path / "notes.mp3").error
    assert "absent.mp3" in call("listen", tmp_path / "absent.mp3").error


# What is kept


def test_lectures_are_listed(call: Call, home_with_lecture: Path) -> None:
    (lecture,) = call("lectures", "--json").json["lectures"]
    assert (lecture["title"], lecture["state"], lecture["file_name"]) == ("Short lecture", "done", "short_lecture.opus")
    assert lecture["num_segments"] == lecture["num_searchable"] > 0
    told = call("lectures")
    assert "Short lecture" in told.out
    assert "searchable" in told.out
    assert lecture["id"][:8] in told.out


def test_the_history_is_searched_limited_and_shown(call: Call, home_with_lecture: Path) -> None:
    for text in ("How hot is the oven?", HEART_QUESTION, "What is the largest planet?"):
        call("ask", "--text", text)
    assert call("history", "--json").json["total"] == 3
    limited = call("history", "--limit", 1, "--json").json
    assert [entry["question"]["text"] for entry in limited["entries"]] == ["What is the largest planet?"]
    assert limited["total"] == 3
    assert call("history", "--query", "OVEN", "--json").json["total"] == 1
    assert call("history", "--unsupported", "--query", "planet", "--json").json["total"] == 1
    assert call("history", "--spoken", "--json").json["total"] == 0
    assert call("history", "--since", "2020-01-01", "--json").json["total"] == 3
    assert call("history", "--until", "2020-01-01 12:30", "--json").json["total"] == 0
    assert "--since" in call("history", "--since", "yesterday").error
    told = call("history", "-n", 2)
    assert "What is the largest planet?" in told.out
    assert "1 to 2 of 3" in told.err


def test_the_history_is_exported(call: Call, home_with_lecture: Path, tmp_path: Path) -> None:
    call("ask", "--text", "=1+1 bread")
    told = call("export", "history", "--format", "csv")
    assert [row["question"] for row in csv.DictReader(io.StringIO(told.out))] == ["'=1+1 bread"]
    assert json.loads(call("export", "history", "--format", "json").out)["entries"][0]["question"]["text"] == "=1+1 bread"
    told = call("export", "history", "--format", "md", "--out", tmp_path / "history.md")
    assert (told.code, told.out) == (0, "")
    assert "## =1+1 bread" in (tmp_path / "history.md").read_text(encoding="utf-8")
    assert "No such file" in call("export", "history", "--out", tmp_path / "absent" / "history.csv").error


def test_an_export_that_cannot_be_written_names_the_file_and_the_way_out(call: Call, home: Path, tmp_path: Path) -> None:
    error = call("export", "history", "--out", tmp_path / "nowhere" / "history.csv").error
    assert str(tmp_path / "nowhere" / "history.csv") in error
    assert "name a file in a folder that is there" in error


def test_what_was_heard_in_a_lecture_is_exported(call: Call, home_with_lecture: Path) -> None:
    (lecture,) = call("lectures", "--json").json["lectures"]
    srt = call("export", "lecture", lecture["id"][:8], "--format", "srt").out
    assert srt.startswith("1\n00:00:0")
    assert "heart" in srt
    exported = json.loads(call("export", "lecture", lecture["id"], "--format", "json").out)
    assert len(exported["segments"]) == lecture["num_segments"]


def test_deleting_asks_first_and_can_be_declined(call: Call, home_with_lecture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lecture,) = call("lectures", "--json").json["lectures"]
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    told = call("delete", "lecture", lecture["id"])
    assert told.code == 1
    assert "nothing was changed" in told.err
    assert call("lectures", "--json").json["lectures"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    told = call("delete", "lecture", lecture["id"])
    assert told.code == 2
    assert "--yes" in told.err
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert call("delete", "lecture", lecture["id"]).code == 0
    assert call("lectures", "--json").json["lectures"] == []


def test_lectures_questions_and_the_history_are_deleted(call: Call, home_with_lecture: Path) -> None:
    for text in ("bread", "fire", "heart"):
        call("ask", "--text", text)
    first = call("history", "--json").json["entries"][0]["id"]
    assert call("delete", "question", first, "--yes", "--json").json == {"deleted": [first]}
    assert len(call("delete", "history", "--yes", "--json").json["deleted"]) == 2
    assert call("history", "--json").json["total"] == 0
    (lecture,) = call("lectures", "--json").json["lectures"]
    assert call("delete", "lecture", lecture["id"], "--yes", "--json").json == {"deleted": [lecture["id"]]}
    assert "add one" in call("ask", "--text", "bread").error


def test_the_index_is_rebuilt(call: Call, home_with_lecture: Path) -> None:
    before = call("search", "--text", "bread", "--json").json["hits"]
    shutil.rmtree(home_with_lecture / "index")
    assert call("rebuild", "--json").json == {"num_segments": len(before)}
    assert call("search", "--text", "bread", "--json").json["hits"] == before


def test_the_doctor_reports_and_fails_if_something_is_wrong(call: Call, home_with_lecture: Path) -> None:
    assert call("doctor", "--json").json["ok"] is True
    assert "ok    database" in call("doctor").out
    for path in home_with_lecture.glob("*.db*"):
        path.write_bytes(b"no database" * 500)
    told = call("doctor", "--json")
    assert told.code == 1
    assert json.loads(told.out)["ok"] is False


# Adding


def test_nothing_that_succeeds_is_exit_code_2(call: Call, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.mp3").write_text("not sound")
    told = call("ingest", tmp_path / "empty", tmp_path / "notes.mp3", tmp_path / "absent.mp3", "--json")
    assert told.code == 2
    assert json.loads(told.out)["lectures"] == []
    assert len(json.loads(told.out)["errors"]) == 3
    assert len([line for line in told.err.splitlines() if line.startswith("error: ")]) == 3


def test_a_title_for_several_files_is_refused(call: Call, home: Path, tmp_path: Path) -> None:
    assert "--title" in call("ingest", "a.wav", "b.wav", "--title", "One").error
    assert "--title" in call("ingest", tmp_path, "--title", "One").error


def test_a_title_that_is_too_long_is_refused(call: Call, home: Path) -> None:
    assert "201 characters" in call("ingest", "a.wav", "--title", "x" * 201).error


def test_what_is_hidden_in_a_folder_is_left_out(call: Call, home: Path, tmp_path: Path) -> None:
    (tmp_path / "course" / ".cache").mkdir(parents=True)
    for name in ("._talk.mp3", ".cache/talk.mp3", "talk.mp3"):
        (tmp_path / "course" / name).write_text("not sound")
    told = call("ingest", tmp_path / "course", "--json")
    assert [Path(one["path"]).name for one in json.loads(told.out)["errors"]] == ["talk.mp3"]
    assert "._talk" not in told.err


def test_a_silent_lecture_is_an_error_with_its_reason(call: Call, home: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * SAMPLE_RATE_HZ, np.float32), SAMPLE_RATE_HZ)
    told = call("ingest", tmp_path / "silence.wav", "--title", "Nothing")
    assert told.code == 2
    assert "nobody speaks" in told.err


@pytest.mark.crash
def test_an_interrupted_ingest_keeps_the_lecture_queued_and_says_how_to_go_on(
    home: Path, short_lecture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKALOUD_RETRIEVER__KIND", "cascade")  # the other would be done before it is interrupted
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "ingest", str(short_lecture)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a background job of a shell ignores it
    )
    parts = build_parts(load_settings())
    try:
        give_up_at = time.monotonic() + WAIT_S
        while parts.library.jobs.worker_seen_at() is None and time.monotonic() < give_up_at:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        parts.library.close()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "askaloud worker" in err
    told = in_a_process("ingest", short_lecture, "--json").json
    assert told["lectures"][0]["new"] is False
    assert told["lectures"][0]["num_segments"] > 0


# Errors and help


def test_settings_that_are_wrong_are_one_line(call: Call, home: Path) -> None:
    (home / "askaloud.toml").write_text("num_hits = 0\n")
    assert "num_hits" in call("lectures").error


def test_what_nobody_foresaw_is_one_line_too(call: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("app.cli.keeping.load_settings", break_down)
    error = call("doctor").error
    assert "ZeroDivisionError: two lines" in error
    assert "ASKALOUD_DEBUG=1" in error
    monkeypatch.setenv("ASKALOUD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["doctor"])


def test_the_version_is_told(call: Call) -> None:
    told = call("--version")
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", told.out)


@pytest.mark.parametrize(
    "command",
    [
        (), ("ingest",), ("ask",), ("search",), ("listen",), ("record",), ("lectures",), ("history",), ("export",), ("export", "history"),
        ("export", "lecture"), ("delete",), ("delete", "lecture"), ("delete", "question"), ("delete", "history"), ("rebuild",), ("doctor",),
        ("run",), ("worker",), ("web",),
    ],
)  # fmt: skip
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    told = CliRunner().invoke(commands, [*command, "--help"])
    assert told.exit_code == 0
    assert "Usage: " in told.output


def test_without_a_command_there_is_help(call: Call) -> None:
    told = call()
    assert told.code == 0
    assert "ingest" in told.out


# Recording


def test_a_question_is_over_after_silence_that_follows_speech() -> None:
    is_over = SaidAndDone()
    levels = [-70.0] * 30 + [-20.0] * 10 + [-65.0] * 5 + [-20.0] * 10 + [-65.0] * 30  # tenths of a second
    over_at = next(i for i, level in enumerate(levels) if is_over(i / 10, level))
    assert over_at == 54 + 20


def test_a_question_in_a_noisy_room_is_over_too() -> None:
    is_over = SaidAndDone()
    levels = [-38.0] * 10 + [-12.0] * 20 + [-38.0] * 40
    assert next(i for i, level in enumerate(levels) if is_over(i / 10, level)) == 29 + 20


def test_a_minute_ends_a_question_whatever_is_heard() -> None:
    is_over = SaidAndDone()
    assert not any(is_over(i / 10, -60.0) for i in range(580))
    assert is_over(59.0, -60.0)


def test_recordings_that_were_never_added_are_found(tmp_path: Path) -> None:
    for name, size, age_s in (("lost.wav", 1000, 60), ("empty.wav", 44, 60), ("growing.wav", 1000, 0)):
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    assert [path.name for path in unfinished_recordings(tmp_path)] == ["lost.wav"]
    assert unfinished_recordings(tmp_path / "absent") == []


def test_a_question_is_spoken_into_the_microphone_and_silence_ends_it(
    call: Call, home_with_lecture: Path, short_question: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(path: Path, device: str | None, on_level: Callable[[float, float], None], stop: threading.Event) -> Recording:
        """Stand in for PortAudio: a device that hears the question, then a quiet room, block by block."""
        said, _ = soundfile.read(short_question, dtype="float32")
        sound = np.random.default_rng(1).normal(0, 1e-3, 40 * SAMPLE_RATE_HZ).astype(np.float32)
        sound[SAMPLE_RATE_HZ // 2 :][: len(said)] += said
        blocks = np.array_split(sound, 400)
        taken = []
        while not stop.is_set():
            taken.append(blocks.pop(0))
            on_level(sum(map(len, taken)) / SAMPLE_RATE_HZ, 20 * float(np.log10(np.abs(taken[-1]).max())))
        soundfile.write(path, np.concatenate(taken), SAMPLE_RATE_HZ)
        return Recording(path, sum(map(len, taken)), SAMPLE_RATE_HZ, 0)

    monkeypatch.setattr("app.microphone.record", record)
    told = call("ask", "--record", "--json").json
    assert "heart" in told["question"]["heard"]
    assert told["answer"]["supported"] is True
    spoken_s = soundfile.info(short_question).duration
    parts = build_parts(load_settings())
    with closing(parts.library):
        kept = build_app(parts).question_audio(UUID(call("history", "--json").json["entries"][0]["id"]))
    assert spoken_s + 2 < kept.duration_s < spoken_s + 4
