"""Commands that ask and listen: `ask`, `search`, `listen`."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias
from uuid import UUID

import typer
from rich.markup import escape

from app import shapes
from app.cli.frame import AsJson, GeneratorKind, Out, RetrieverKind, console, error_console, find_lecture, note, opened, print_json, put_out
from app.cli.recording import record_question
from app.errors import CommandMisused
from app.export import HeardFormat, export_heard
from app.subtitles import clocks
from generator.domain import Answer, AnswerStatus, Citation, Evidence
from retriever.domain import Question

if TYPE_CHECKING:
    from app.found import Asked
    from app.service import SpokenQA

Text: TypeAlias = Annotated[str | None, typer.Option("--text", "-t", help="The question, typed.")]
AudioFile: TypeAlias = Annotated[Path | None, typer.Option("--audio", "-a", help="A file with the question, spoken; at most a minute.")]
Microphone: TypeAlias = Annotated[bool, typer.Option("--record", "-r", help="Speak the question into the microphone.")]
Device: TypeAlias = Annotated[str | None, typer.Option("--device", help="Microphone: its number or a part of its name.")]
Scope: TypeAlias = Annotated[
    list[str] | None, typer.Option("--lecture", "-l", metavar="ID", help="Look in this lecture only; may be repeated.")
]
NumHits: TypeAlias = Annotated[int | None, typer.Option("-k", min=1, max=50, help="How many moments to find.")]


def register(commands: typer.Typer) -> None:
    """Add the commands of this file."""
    commands.command()(ask)
    commands.command()(search)
    commands.command()(listen)


@dataclass(frozen=True, slots=True)
class _Asking:
    """How a question was put on the command line."""

    text: str | None
    audio: Path | None
    record: bool
    device: str | None
    lectures: Sequence[str]

    def __post_init__(self) -> None:
        if sum((self.text is not None, self.audio is not None, self.record)) != 1:
            raise CommandMisused("ask in one way: --text QUESTION, --audio FILE or --record")


def ask(
    text: Text = None,
    audio: AudioFile = None,
    record: Microphone = False,
    device: Device = None,
    lecture: Scope = None,
    num_hits: NumHits = None,
    retriever: RetrieverKind = None,
    generator: GeneratorKind = None,
    as_json: AsJson = False,
) -> None:
    """Ask the lectures a question; the answer names the moments it rests on."""
    asking = _Asking(text, audio, record, device, lecture or ())
    with opened(retriever, generator) as one, _question(one.qa, asking) as question:
        asked = _watched(one.qa.asking(question, num_hits))
    found = asked.found
    if as_json:
        print_json(shapes.of_asking(found.question, asked.answer, found.evidence, found.timings_ms))
        return
    _show_heard(found.question)
    _show_answer(asked.answer, found.evidence)


def search(
    text: Text = None,
    audio: AudioFile = None,
    record: Microphone = False,
    device: Device = None,
    lecture: Scope = None,
    num_hits: NumHits = None,
    retriever: RetrieverKind = None,
    as_json: AsJson = False,
) -> None:
    """Find the moments that are nearest to a question; nothing is answered or remembered."""
    asking = _Asking(text, audio, record, device, lecture or ())
    with opened(retriever) as one, _question(one.qa, asking) as question:
        found = one.qa.search(question, num_hits)
    if as_json:
        print_json(shapes.of_search(found.question, found.evidence, found.timings_ms))
        return
    _show_heard(found.question)
    out = console()
    for number, evidence in enumerate(found.evidence, start=1):
        out.print(f"{number}. {evidence.lecture_title} {clocks(evidence.segment.span)}", style="bold")
        out.print(f"   {evidence.text or '(nothing was understood here)'}")


def listen(
    file: Annotated[Path, typer.Argument(help="A sound or video file.")],
    kind: Annotated[HeardFormat, typer.Option("--format", "-f", help="How to print what was heard.")] = HeardFormat.TXT,
    out: Out = None,
    retriever: RetrieverKind = None,
    as_json: AsJson = False,
) -> None:
    """Print what the retriever hears in a file; nothing is kept."""
    with opened(retriever) as one:
        heard = list(one.qa.listen(file))
    if as_json and out is None:
        print_json(shapes.of_heard(heard))
        return
    put_out(export_heard(heard, HeardFormat.JSON if as_json else kind), out)
    if not any(segment.words for segment in heard):
        note("nobody speaks in this file, as far as the retriever can hear")


@contextmanager
def _question(qa: "SpokenQA", asking: _Asking) -> Iterator[Question]:
    """Make the question; sound from the microphone is gone from the disk afterwards (the history keeps its own copy)."""
    scope = frozenset(find_lecture(qa, prefix) for prefix in asking.lectures) if asking.lectures else None
    if asking.text is not None:
        yield Question(text=asking.text, scope=scope)
        return
    if asking.audio is not None:
        yield Question(audio=qa.read_question(asking.audio), scope=scope)
        return
    with tempfile.TemporaryDirectory(prefix="askaloud-") as folder:
        path = record_question(Path(folder), asking.device)
        yield Question(audio=qa.read_question(path), scope=scope)


def _watched(states: "Iterator[Asked]") -> "Asked":
    """Show an answer on standard error while it comes, where that is a terminal; return it whole."""
    last = next(states)
    if last.answer.status is AnswerStatus.STREAMING:
        with error_console().status("asking the model server …") as shown:
            for last in states:
                if last.answer.text:
                    shown.update(escape(last.answer.text))
    return last


def _show_heard(question: Question) -> None:
    if question.heard is not None and not question.text:
        note(f"heard: {question.heard or '(nothing was understood)'}")


def _show_answer(answer: Answer, evidence: Sequence[Evidence]) -> None:
    titles = {one.segment.lecture_id: one.lecture_title for one in evidence}
    out = console()
    out.print(answer.text, style="bold")
    if answer.note:
        out.print(f"Note: {answer.note}")
    if answer.nearest and not answer.citations:
        out.print("\nThe nearest moments, though they may not answer it:")
    for number, citation in enumerate(answer.citations or answer.nearest, start=1):
        out.print(f"\n{number}. {_title(citation, titles)} {clocks(citation.span)}")
        out.print(f"   {citation.text}", style="dim")


def _title(citation: Citation, titles: Mapping[UUID, str]) -> str:
    return titles.get(citation.segment.lecture_id, "")
