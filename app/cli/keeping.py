"""Commands about what is kept: `lectures`, `history`, `export`, `delete`, `rebuild`, `doctor`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from app import doctor as health
from app import shapes
from app.cli.frame import (
    AsJson,
    Out,
    Yes,
    confirm,
    console,
    counted,
    find_lecture,
    find_question,
    note,
    opened,
    opened_parts,
    print_json,
    put_out,
)
from app.errors import WorkerBusy
from app.export import HeardFormat, HistoryFormat, export_heard, export_history
from app.progress import describe
from app.settings import load_settings
from retriever.domain import clock
from storage.domain import HistoryPage, HistoryQuery, LectureInfo

DATES = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]

Id = Annotated[str, typer.Argument(metavar="ID", help="The id, or enough of its beginning.")]
Words = Annotated[str, typer.Option("--query", "-q", help="Only questions with all these words in question or answer.")]
ScopeOption = Annotated[str | None, typer.Option("--lecture", "-l", metavar="ID", help="Only questions about this lecture.")]
Supported = Annotated[bool | None, typer.Option("--supported/--unsupported", help="Only with, or without, an answer in the lectures.")]
Since = Annotated[datetime | None, typer.Option("--since", formats=DATES, help="Only questions asked at or after this local time.")]
Until = Annotated[datetime | None, typer.Option("--until", formats=DATES, help="Only questions asked before this local time.")]
Spoken = Annotated[bool | None, typer.Option("--spoken/--typed", help="Only spoken, or typed, questions.")]


def register(commands: typer.Typer) -> None:
    """Add the commands of this file."""
    exporting = typer.Typer(help="Export the history or what was heard in a lecture.", no_args_is_help=True)
    exporting.command("history")(export_all_history)
    exporting.command("lecture")(export_lecture)
    deleting = typer.Typer(help="Delete a lecture, a question or the whole history.", no_args_is_help=True)
    deleting.command("lecture")(delete_lecture)
    deleting.command("question")(delete_question)
    deleting.command("history")(delete_history)
    commands.command()(lectures)
    commands.command()(history)
    commands.add_typer(exporting, name="export")
    commands.add_typer(deleting, name="delete")
    commands.command()(rebuild)
    commands.command()(doctor)


def lectures(as_json: AsJson = False) -> None:
    """List the lectures and how far the work on them is."""
    with opened() as one:
        infos, alive = one.qa.lectures(), one.qa.worker_is_alive()
    if as_json:
        print_json({"lectures": [shapes.of_lecture(info) for info in infos]})
        return
    if not infos:
        note("no lectures yet: `askaloud ingest FILE` adds one")
        return
    table = Table("id", "title", "course", "length", "state", box=None, pad_edge=False)
    for info in infos:
        table.add_row(
            str(info.lecture.id)[:8],
            info.lecture.title,
            info.course or "",
            clock(info.lecture.duration_s),
            _state(info, worker_alive=alive),
        )
    console().print(table)


def history(
    query: Words = "",
    lecture: ScopeOption = None,
    supported: Supported = None,
    spoken: Spoken = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many, the newest first.")] = 20,
    offset: Annotated[int, typer.Option("--offset", min=0, help="How many of the newest to pass over.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List the questions asked, with their answers."""
    with opened() as one:
        scope = find_lecture(one.qa, lecture) if lecture else None
        page = one.qa.history(HistoryQuery(query, scope, supported, spoken, _utc(since), _utc(until)), limit, offset)
    if as_json:
        print_json(shapes.of_history(page))
    else:
        _show_history(page, offset)


def export_all_history(
    kind: Annotated[HistoryFormat, typer.Option("--format", "-f", help="The format.")] = HistoryFormat.CSV,
    query: Words = "",
    lecture: ScopeOption = None,
    supported: Supported = None,
    spoken: Spoken = None,
    since: Since = None,
    until: Until = None,
    out: Out = None,
) -> None:
    """Export the history, the newest question first."""
    with opened() as one:
        scope = find_lecture(one.qa, lecture) if lecture else None
        entries = list(one.qa.whole_history(HistoryQuery(query, scope, supported, spoken, _utc(since), _utc(until))))
    put_out(export_history(entries, kind), out)


def export_lecture(
    lecture: Id,
    kind: Annotated[HeardFormat, typer.Option("--format", "-f", help="The format.")] = HeardFormat.SRT,
    out: Out = None,
) -> None:
    """Export what was heard in a lecture, with times."""
    with opened() as one:
        heard = one.qa.heard(find_lecture(one.qa, lecture))
    put_out(export_heard(heard, kind), out)


def delete_lecture(lecture: Id, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a lecture with its sound, segments and words; questions about it stay in the history and say so."""
    with opened() as one:
        info = one.qa.lecture(find_lecture(one.qa, lecture))
        confirm(f"Delete {info.lecture.title!r} ({clock(info.lecture.duration_s)}) with its sound?", yes)
        one.qa.delete_lecture(info.lecture.id)
    _deleted([str(info.lecture.id)], f"deleted {info.lecture.title!r}", as_json)


def delete_question(question: Id, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a question with its answer and its sound."""
    with opened() as one:
        entry = one.qa.entry(find_question(one.qa, question))
        confirm(f"Delete the question {entry.question.wording!r} with its answer?", yes)
        one.qa.forget(entry.question.id)
    _deleted([str(entry.question.id)], "deleted the question", as_json)


def delete_history(yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete all questions with their answers and their sound."""
    with opened() as one:
        ids = [str(entry.question.id) for entry in one.qa.whole_history(HistoryQuery())]
        confirm(f"Delete {counted(len(ids), 'question')} with all answers?", yes)
        one.qa.forget_all()
    _deleted(ids, f"deleted {counted(len(ids), 'question')}", as_json)


def rebuild(as_json: AsJson = False) -> None:
    """Make the index again from the library."""
    with opened_parts() as parts:
        from app.build import build_worker  # noqa: PLC0415  loaded by now; at the top it would slow every command

        try:
            num_segments = build_worker(parts).rebuild_index()
        except WorkerBusy as error:
            raise WorkerBusy(
                "a worker is running, which keeps the index equal to the library by itself; to make it from nothing all the same, end "
                "`askaloud run` (or `askaloud worker`) first"
            ) from error
    if as_json:
        print_json({"num_segments": num_segments})
    else:
        note(f"the index holds {counted(num_segments, 'segment')}")


def doctor(as_json: AsJson = False) -> None:
    """Check everything the application needs; exit code 1 if something is wrong."""
    checks = health.check(load_settings())
    if as_json:
        print_json(health.to_json(checks))
    else:
        _show_checks(checks)
    if not all(one.ok for one in checks):
        raise typer.Exit(1)


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC)


def _state(info: LectureInfo, *, worker_alive: bool) -> str:
    if info.is_complete:
        return f"searchable. {info.warning}" if info.warning else "searchable"
    if info.job is None:
        return "not searchable yet"
    return describe(info.job, info.lecture, datetime.now(UTC), worker_alive=worker_alive).text


def _show_history(page: HistoryPage, offset: int) -> None:
    out = console()
    for entry in page.entries:
        out.print(f"{str(entry.question.id)[:8]}  {entry.asked_at:%Y-%m-%d %H:%M} UTC  {entry.question.wording}", style="bold")
        out.print(f"          {entry.answer.text if entry.answer else '(no answer)'}")
        if entry.answer and entry.answer.note:
            out.print(f"          Note: {entry.answer.note}", style="dim")
    last = offset + len(page.entries)
    note(f"{offset + 1} to {last} of {page.total}" if page.entries else "no questions here")


def _deleted(ids: Sequence[str], text: str, as_json: bool) -> None:
    if as_json:
        print_json({"deleted": list(ids)})
    else:
        note(text)


def _show_checks(checks: Sequence[health.Check]) -> None:
    out = console()
    for one in checks:
        mark, style = ("ok", "green") if one.ok and not one.way_out else ("note", "yellow") if one.ok else ("WRONG", "bold red")
        out.print(f"{mark:<6}{one.name}: {one.message}", style=style)
        if one.way_out:
            out.print(f"      {one.way_out}")
