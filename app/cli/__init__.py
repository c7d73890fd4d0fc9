"""The command line `askaloud`: thin commands over `app/service.py`.

Each file here holds the commands of one concern; this one puts them together and turns every error into one line and exit code 2.
"""

import logging
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from app.cli import adding, asking, evaluating, keeping, serve_llm, serving
from app.errors import AppError
from generator.errors import GeneratorError
from retriever.errors import RetrieverError
from storage.errors import StorageError

FAILED = 2

commands = typer.Typer(
    name="askaloud",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)
for concern in (adding, asking, keeping, serving, serve_llm, evaluating):
    concern.register(commands)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(_version())
        raise typer.Exit


@commands.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")] = False,
) -> None:
    """Ask your lectures, out loud. Everything stays on this machine."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave the process with its exit code: 0 done, 2 an error in one line, 130 Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    debug = os.environ.get("ASKALOUD_DEBUG") == "1"
    if debug:
        logging.basicConfig(level=logging.DEBUG)
    try:
        code = commands(list(arguments) or ["--help"], prog_name="askaloud", standalone_mode=False)
    except typer.Abort:  # a question was asked, and standard input is closed
        return _fail("nobody answers on the keyboard; say --yes if you mean it")
    except typer.TyperException as error:
        return _fail(error.format_message())
    except (AppError, RetrieverError, GeneratorError, StorageError, OSError) as error:
        if debug:
            raise
        return _fail(str(error))
    except Exception as error:
        if debug:
            raise
        return _fail(f"something unforeseen went wrong ({type(error).__name__}: {error}); ASKALOUD_DEBUG=1 shows where")
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return FAILED


def _version() -> str:
    try:
        return metadata.version("askaloud")
    except metadata.PackageNotFoundError:
        return "unknown (not installed as a package)"
