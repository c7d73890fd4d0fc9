"""Families of speech LLMs: what each may be sent, and how vLLM has to be started for it; one frozen record each.

A family says how long a clip may be and how many go into one prompt, because servers do not: vLLM cuts a clip of 45 s to 30 s for
Qwen2-Audio and answers 200. What is not `verified_with` a server was written from its makers' and vLLM's documentation, never run here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Final

from generator.errors import FamilyUnknown


class PromptStyle(StrEnum):
    """Where a model's chat template takes the rules from."""

    SYSTEM = "system"  # a system message of its own
    USER = "user"  # the template knows no system message, or ignores it beside audio: the rules open the user's message


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen unless the settings say otherwise.

    Attributes:
        temperature: 0 always takes the likeliest.
        repetition_penalty: 1 is none; vLLM's own parameter beside the protocol's.
    """

    temperature: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """What models of one kind take, and how vLLM serves them.

    Attributes:
        name: as the settings name it.
        title: as people name it.
        matches: patterns (`*` stands for anything, in lower case) of the last part of a checkpoint's name.
        max_clip_s: the longest sound in one part of a message; more is cut off, unsaid, by some models.
        max_clips: sounds in one prompt at most, the question's among them.
        multi_audio: whether a prompt may hold several sounds; otherwise clips are joined to one of at most `max_clip_s`.
        sampling: how the next token is chosen.
        prompt: where the rules go.
        serve_flags: what `vllm serve MODEL` needs beside the address; `{model}` stands for the checkpoint.
        structured: whether answers can be held to a JSON schema.
        verified_with: the server on which the tests run a tiny checkpoint of this kind; empty if none was run.
        note: what else one has to know, a sentence; empty if nothing.
    """

    name: str
    title: str
    matches: tuple[str, ...]
    max_clip_s: float
    max_clips: int
    multi_audio: bool = True
    sampling: Sampling = Sampling()
    prompt: PromptStyle = PromptStyle.SYSTEM
    serve_flags: tuple[str, ...] = ()
    structured: bool = True
    verified_with: str = ""
    note: str = ""

    @property
    def verified(self) -> bool:
        """Whether a checkpoint of this kind was run on the real server."""
        return bool(self.verified_with)


_VLLM_RUN: Final = "vLLM 0.32.0 on CPUs"
_MISTRAL_FILES: Final = ("--tokenizer-mode", "mistral", "--config-format", "mistral", "--load-format", "mistral")


def _audio_limit(number: int) -> tuple[str, str]:
    return "--limit-mm-per-prompt", f'{{"audio": {number}}}'  # JSON: the short form `audio=8` is refused at start


FAMILIES: Final[tuple[ModelFamily, ...]] = (
    ModelFamily(
        "askaloud",
        "askaloud's own (HuBERT, windowed Q-Former, Llama)",
        ("askaloud*", "spokenqa*"),
        max_clip_s=30.0,
        max_clips=8,
        serve_flags=_audio_limit(8),
        note="Needs the plugin for vLLM in the server's environment; refuses longer clips itself.",
    ),
    ModelFamily(
        "qwen2-audio",
        "Qwen2-Audio",
        ("qwen2-audio*",),
        max_clip_s=30.0,
        max_clips=8,
        serve_flags=("--max-model-len", "8192", *_audio_limit(8)),
        verified_with=_VLLM_RUN,
        note="The server cuts a longer clip to 30 s and answers as if nothing were missing: askaloud never sends one.",
    ),
    ModelFamily(
        "qwen2.5-omni",
        "Qwen2.5-Omni",
        ("qwen2.5-omni*",),
        max_clip_s=30.0,
        max_clips=12,
        serve_flags=("--max-model-len", "16384", *_audio_limit(12)),
        note="Takes up to 300 s a clip where its preprocessor is configured so; 30 s is safe with all.",
    ),
    ModelFamily(
        "qwen3-omni",
        "Qwen3-Omni",
        ("qwen3-omni*",),
        max_clip_s=30.0,
        max_clips=12,
        serve_flags=("--max-model-len", "16384", *_audio_limit(12)),
        note="Some versions of vLLM cut its clips at 30 s.",
    ),
    ModelFamily(
        "voxtral",
        "Voxtral",
        ("voxtral*",),
        max_clip_s=600.0,
        max_clips=5,
        prompt=PromptStyle.USER,
        serve_flags=(*_MISTRAL_FILES, "--max-model-len", "16384", *_audio_limit(5)),
        verified_with=_VLLM_RUN,
        note="Every clip takes as much of the prompt as 30 s do; vLLM takes five whatever it is told. It needs mistral-common[audio].",
    ),
    ModelFamily(
        "ultravox",
        "Ultravox",
        ("ultravox*",),
        max_clip_s=30.0,
        max_clips=8,
        serve_flags=("--max-model-len", "8192", *_audio_limit(8)),
    ),
    ModelFamily(
        "phi-4-multimodal",
        "Phi-4-multimodal",
        ("phi-4-multimodal*",),
        max_clip_s=30.0,
        max_clips=8,
        serve_flags=(
            "--trust-remote-code",
            "--max-model-len",
            "16384",
            "--enable-lora",
            "--max-lora-rank",
            "320",
            "--lora-modules",
            "speech={model}/speech-lora",
            *_audio_limit(8),
        ),
        note='Its speech adapter has to be asked for by name: set model = "speech" and family = "phi-4-multimodal".',
    ),
    ModelFamily(
        "granite-speech",
        "Granite Speech",
        ("granite-speech*", "granite-*-speech*"),
        max_clip_s=240.0,
        max_clips=1,
        multi_audio=False,
        serve_flags=(
            "--max-model-len",
            "8192",
            "--enable-lora",
            "--max-lora-rank",
            "64",
            "--lora-modules",
            "speech={model}",
            *_audio_limit(1),
        ),
        note='One sound in a prompt; its adapter has to be asked for by name: set model = "speech" and family = "granite-speech".',
    ),
    ModelFamily(
        "gemma-3n",
        "Gemma 3n",
        ("gemma-3n*", "gemma3n*"),
        max_clip_s=30.0,
        max_clips=1,
        multi_audio=False,
        prompt=PromptStyle.USER,
        serve_flags=("--max-model-len", "8192", *_audio_limit(1)),
        note="One sound of 30 s in a prompt: of several clips the best that fit are joined.",
    ),
)


def family_of(model_name: str, families: Sequence[ModelFamily] = FAMILIES) -> ModelFamily:
    """Return the family that a checkpoint belongs to by its name, whatever folder or owner stands before it.

    Raises:
        FamilyUnknown: none matches; nothing is guessed, for a wrong limit loses sound without a word.
    """
    last = PurePath(model_name.strip().rstrip("/")).name.lower()
    for family in families:
        if any(fnmatchcase(last, pattern) for pattern in family.matches):
            return family
    raise FamilyUnknown(
        f"the model {model_name!r} is of no family known here, so how long its clips may be is unknown: "
        f"set the generator's `family` to one of {', '.join(one.name for one in families)}"
    )


def named_family(name: str, families: Sequence[ModelFamily] = FAMILIES) -> ModelFamily:
    """Return the family of this name, as the settings give it. Raises FamilyUnknown."""
    for family in families:
        if family.name == name:
            return family
    raise FamilyUnknown(f"{name!r} is no family of speech LLMs: choose one of {', '.join(one.name for one in families)}")
