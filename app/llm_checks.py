"""What the doctor looks at in a model server: health, models, whether it answers to a second of sound, whether its family was tried."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TypeAlias

from app.errors import LlmServerFailed
from app.llm_probe import hear_a_second, is_healthy, read_a_line, served_models
from generator.config import Served, ServedText
from generator.errors import FamilyUnknown
from generator.families import ModelFamily, family_of, named_family

Finding: TypeAlias = tuple[bool, str, str]
"""Whether it is well, what was found, the way out."""

START = "start it with `askaloud serve-llm`, or mend `base_url` in the [generator] settings; until then the embedded generator answers"
CLIENT = "langchain_openai"


def check_server(config: Served | ServedText) -> Iterator[Finding]:
    """Yield what was found, in the order in which problems should be solved; end at what makes the rest meaningless."""
    if find_spec(CLIENT) is None:
        yield False, "the packages that talk to a model server are not installed", "install askaloud with the extra `llm`"
    address = config.base_url.rstrip("/").removesuffix("/v1")
    if not is_healthy(address):
        yield False, f"{address}/health does not say that it is well", START
        return
    yield True, f"{address} is well", ""
    key = os.environ.get(config.api_key_env, "")
    try:
        models = served_models(config.base_url, key)
    except LlmServerFailed as error:
        yield False, str(error), f"mend `base_url`, or put the key into the environment variable {config.api_key_env}"
        return
    model = config.model or (models[0] if len(models) == 1 else "")
    if model not in models:
        yield False, f"it serves {', '.join(models) or 'no model'}", "set `model` in the [generator] settings to one of these"
        return
    yield True, f"it serves {model}", ""
    yield from _check_family(config, model)
    yield _round_trip(config, model, key)


def _check_family(config: Served | ServedText, model: str) -> Iterator[Finding]:
    if isinstance(config, ServedText):
        return
    try:
        family = named_family(config.family) if config.family else family_of(model)
    except FamilyUnknown as error:
        yield False, str(error), "set `family` in the [generator] settings"
        return
    yield True, *_told_of(family)


def _told_of(family: ModelFamily) -> tuple[str, str]:
    """Return a line on what is known of a family, and a hint if it was never tried."""
    sounds = f"{family.max_clips} sounds of {family.max_clip_s:g} s" if family.multi_audio else f"a sound of {family.max_clip_s:g} s"
    tried = f"verified: a tiny checkpoint was run on {family.verified_with}" if family.verified else "unverified: it was never run here"
    hint = "" if family.verified else "try a few questions whose answers you know before you rely on it"
    return f"family {family.title}: {sounds} at most ({tried})", hint


def _round_trip(config: Served | ServedText, model: str, key: str) -> Finding:
    sound = isinstance(config, Served)
    try:
        (hear_a_second if sound else read_a_line)(config.base_url, model, key, config.timeout_s)
    except LlmServerFailed as error:
        way_out = "check that `family` is that of the model, and look at the server's log" if sound else "look at the server's log"
        return False, str(error), way_out
    return True, f"{model} answers to {'a second of sound' if sound else 'a line of text'}", ""
