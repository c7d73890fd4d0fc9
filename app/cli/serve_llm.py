"""The command `serve-llm`: start a vLLM server that the generators `served` and `served-text` ask, and keep it running."""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from app.cli.frame import note
from app.errors import CommandMisused
from app.llm_server import DEFAULT_HOST, DEFAULT_PORT, LlmKeeper, LlmServer, find_vllm
from app.settings import Settings, load_settings, require_home
from generator.config import Served, ServedText
from generator.families import ModelFamily, family_of, named_family

TEXT = "text"


def register(commands: typer.Typer) -> None:
    """Add the command of this file."""
    commands.command("serve-llm")(serve_llm)


def serve_llm(
    model: Annotated[str, typer.Option("--model", "-m", help="Folder or name of the checkpoint; otherwise that of the settings.")] = "",
    family: Annotated[str, typer.Option("--family", help=f"Its family, or `{TEXT}`; otherwise told from its name.")] = "",
    host: Annotated[str, typer.Option("--host", help="Address to listen at; otherwise that of the settings.")] = "",
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port to listen at; otherwise that of the settings.")] = None,
    vllm: Annotated[Path | None, typer.Option("--vllm", help="vLLM's command, or the folder of its environment.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a checkpoint that is not on this machine.")] = False,
    only_print: Annotated[bool, typer.Option("--print", help="Print the command instead of running it.")] = False,
    more: Annotated[list[str] | None, typer.Argument(metavar="[-- VLLM'S OWN FLAGS]", help="Further flags for `vllm serve`.")] = None,
) -> None:
    """Start a speech LLM (or a text LLM) on vLLM and keep it running. Ctrl-C ends it.

    For example: askaloud serve-llm --model models/Qwen2-Audio-7B-Instruct -- --tensor-parallel-size 2
    """
    settings = load_settings()
    wanted = model or _of_settings(settings, "model")
    if not wanted:
        raise CommandMisused("no model is named: give --model, or set `model` in the [generator] settings")
    told = urlsplit(_of_settings(settings, "base_url"))
    server = LlmServer(
        family=_family(settings, wanted, family),  # before vLLM is looked for: a wrong name is wrong wherever it runs
        program=Path("vllm") if only_print and vllm is None else find_vllm(vllm),
        model=wanted,
        host=host or told.hostname or DEFAULT_HOST,
        port=port or told.port or DEFAULT_PORT,
        key=os.environ.get(_of_settings(settings, "api_key_env") or Served().api_key_env, ""),
        may_download=download,
        more=tuple(more or ()),
    )
    if only_print:
        typer.echo(server.shell_line())
        return
    require_home(settings)
    log_path = settings.log_folder / "llm-server.log"
    note(f"starting {server.name} at {server.address}/v1; Ctrl-C ends it, its log is {log_path}")
    if server.host not in ("127.0.0.1", "::1", "localhost") and not server.key:
        note(
            f"warning: whoever reaches {server.host} on the network can use it; "
            "put a key into the environment variable that api_key_env names"
        )
    LlmKeeper(server, log_path, note).run()


def _family(settings: Settings, model: str, named: str) -> ModelFamily | None:
    """Return the family asked for, or that of the settings, or what the name tells; None for a text LLM."""
    if not named:
        if isinstance(settings.generator, ServedText):
            return None
        named = settings.generator.family if isinstance(settings.generator, Served) else ""
    if named == TEXT:
        return None
    return named_family(named) if named else family_of(model)


def _of_settings(settings: Settings, name: str) -> str:
    """Return a setting of a served generator; empty if another one is chosen."""
    return str(getattr(settings.generator, name)) if isinstance(settings.generator, Served | ServedText) else ""
