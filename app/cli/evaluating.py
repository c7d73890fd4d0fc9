"""The command `evaluate`: how well retrieval works on a data set, for several systems side by side."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.frame import AsJson, note, print_json
from app.errors import CommandMisused
from app.settings import load_settings
from retriever.config import FixedWindows, SegmentationConfig, SpeechPauses

Data = Annotated[
    str, typer.Option("--data", metavar="[LAYOUT:]PATH", help="The data set: a folder as it is published, or JSON lines with text alone.")
]
Systems = Annotated[
    str,
    typer.Option("--systems", help="With commas: text, text-whole, a kind of retriever, NAME=KIND[:FOLDER][@said|@text]."),
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Report, plots and kept work go into this folder.")]
Segmentations = Annotated[str, typer.Option("--segmentations", help="With commas: pauses, or windows:SECONDS.")]
NoiseSteps = Annotated[str, typer.Option("--noise", help="With commas: signal to noise in dB; each is a step of the curve.")]
NoiseFolder = Annotated[Path | None, typer.Option("--noise-folder", help="FLAC or WAV files to add; else noise is generated.")]
Curves = Annotated[
    str | None,
    typer.Option("--curves", help="With commas: systems that noise and further segmentations are for; else all."),
]
First = Annotated[int | None, typer.Option("--contexts", help="Take so many contexts, spread over the set, and their questions.")]
Forms = Annotated[str, typer.Option("--questions", help="With commas: typed, spoken.")]


def register(commands: typer.Typer) -> None:
    """Add the command of this file."""
    commands.command()(evaluate)


def evaluate(
    data: Data,
    out: OutFolder,
    systems: Systems = "text,cascade",
    segmentations: Segmentations = "pauses",
    noise: NoiseSteps = "",
    noise_folder: NoiseFolder = None,
    curves: Curves = None,
    contexts: First = None,
    questions: Forms = "typed",
    as_json: AsJson = False,
) -> None:
    """Measure recall, word errors and speed of several systems on the same sound."""
    from app.evaluation import plots, report  # noqa: PLC0415 - with faiss and all it needs, which `--help` need not wait for
    from app.evaluation.runner import SPOKEN, TYPED, Plan, Runner  # noqa: PLC0415
    from app.evaluation.sets.loading import load_set  # noqa: PLC0415
    from app.evaluation.sounds import Noise, noise_files  # noqa: PLC0415
    from app.evaluation.systems import parse_systems  # noqa: PLC0415

    files = noise_files(noise_folder)
    forms = tuple(one.strip() for one in questions.split(","))
    if not set(forms) <= {TYPED, SPOKEN} or len(set(forms)) != len(forms):
        raise CommandMisused(f"questions are {TYPED}, {SPOKEN} or both with a comma, got {questions!r}")
    plan = Plan(
        systems=tuple(parse_systems(systems, load_settings())),
        segmentations=tuple(_segmentation(one.strip()) for one in segmentations.split(",")),
        noises=(Noise(), *(Noise(_number(step), files) for step in noise.split(",") if step.strip())),
        forms=forms,
        curves=None if curves is None else frozenset(one.strip() for one in curves.split(",") if one.strip()),
    )
    chosen = load_set(data)
    if contexts is not None:
        chosen = chosen.first(contexts)
    runner = Runner(chosen, out / "work", note)
    outcomes, differences = runner.run(plan)
    found = report.Report(chosen, runner.data_hash, plan.systems, outcomes, differences)
    path = report.write(found, out)
    for drawn in (path, path.with_name("report.md"), *plots.draw(path)):
        note(f"written to {drawn}")
    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(path.with_name("report.md").read_text(encoding="utf-8"), nl=False)


def _segmentation(text: str) -> SegmentationConfig:
    kind, _, seconds = text.partition(":")
    if kind == "pauses" and not seconds:
        return SpeechPauses()
    if kind == "windows" and seconds:
        return FixedWindows(window_s=_number(seconds))
    raise CommandMisused(f"{text!r} is no segmentation: say pauses, or windows:SECONDS")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise CommandMisused(f"{text!r} is no number") from error
