"""What all commands share: opening the application, showing things, finding what a shortened id means.

Standard output carries the result and nothing else; progress, hints and errors go to standard error.
"""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias
from uuid import UUID

import typer
from rich.console import Console

from app.errors import CommandMisused
from app.settings import Settings, load_settings, with_kinds
from app.shapes import JsonObject
from storage.domain import HistoryQuery

if TYPE_CHECKING:
    from app.build import Parts
    from app.service import SpokenQA

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Out: TypeAlias = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of standard output.")]
RetrieverKind: TypeAlias = Annotated[str | None, typer.Option("--retriever", metavar="KIND", help="Search with this retriever.")]
GeneratorKind: TypeAlias = Annotated[str | None, typer.Option("--generator", metavar="KIND", help="Answer with this generator.")]


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An open application, with the parts it is made of."""

    qa: "SpokenQA"
    parts: "Parts"

    @property
    def settings(self) -> Settings:
        """What it was built from."""
        return self.parts.settings


@contextmanager
def opened(retriever: str | None = None, generator: str | None = None) -> Iterator[Opened]:
    """Open the application for one command, and close it."""
    with opened_parts(retriever, generator) as parts:
        from app.build import build_app  # noqa: PLC0415  loaded by now

        yield Opened(build_app(parts), parts)


@contextmanager
def opened_parts(retriever: str | None = None, generator: str | None = None) -> Iterator["Parts"]:
    """Open what can do without a generator: library, retriever, segmenter."""
    settings = with_kinds(load_settings(), retriever, generator)
    from app.build import build_parts  # noqa: PLC0415  half a second that `--help` and the supervisor need not wait

    parts = build_parts(settings)
    with closing(parts.library), closing(parts.retriever):
        yield parts


def note(text: str) -> None:
    """Tell the user something beside the result."""
    typer.echo(text, err=True)


def console() -> Console:
    """Return where tables and answers go: standard output, words as they are."""
    made = Console(markup=False, highlight=False, emoji=False)
    if not made.is_terminal:  # a file or another program gets whole lines
        made.soft_wrap, made.width = True, 1000
    return made


def error_console() -> Console:
    """Return where progress goes: standard error."""
    return Console(stderr=True, highlight=False, emoji=False)


def print_json(value: JsonObject) -> None:
    """Print the one object that `--json` promises."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def counted(number: int, noun: str) -> str:
    """Return so many of something in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def put_out(text: str, out: Path | None) -> None:
    """Print the text, or write it to a file."""
    if out is None:
        typer.echo(text, nl=False)
    else:
        try:
            out.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise CommandMisused(f"{out} cannot be written ({error.strerror}): name a file in a folder that is there and yours") from error
        note(f"written to {out}")


def confirm(question: str, yes: bool) -> None:
    """Go on only if the user says so."""
    if not yes and not typer.confirm(question, err=True):
        note("nothing was changed")
        raise typer.Exit(1)


def find_lecture(qa: "SpokenQA", prefix: str) -> UUID:
    """Return the lecture whose id begins like this."""
    return _only("lecture", prefix, (info.lecture.id for info in qa.lectures()))


def find_question(qa: "SpokenQA", prefix: str) -> UUID:
    """Return the question whose id begins like this."""
    return _only("question", prefix, (entry.question.id for entry in qa.whole_history(HistoryQuery())))


def _only(noun: str, prefix: str, ids: Iterator[UUID]) -> UUID:
    wanted = prefix.strip().lower().replace("-", "")
    found = [one for one in ids if wanted and one.hex.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    listing = "askaloud lectures" if noun == "lecture" else "askaloud history"
    if found:
        raise CommandMisused(f"{len(found)} {noun}s have an id that begins with {prefix!r}: give more of it")
    raise CommandMisused(f"no {noun} has an id that begins with {prefix!r}: `{listing}` lists them")
