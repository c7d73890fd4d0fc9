"""The form that served models answer in: a JSON schema where the server can hold them to it, else a parser that bears with them.

The order of the fields is chosen for streaming: whether the clips answer, and which, is known before the first word of the answer is shown.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from generator.errors import AnswerUnusable

Json: TypeAlias = dict[str, object]

MAX_ANSWER_CHARACTERS: Final = 600  # two sentences are asked for; a model that runs on is stopped by the schema

_FIELD: Final = re.compile(r'["“\']?(supported|clips|answer)["”\']?\s*[:=]\s*', re.IGNORECASE)
_ANSWER_BEGINS: Final = re.compile(r'"answer"\s*:\s*"')
_LABELLED: Final = re.compile(r"^\W*(answer|clips?|sources?|supported)\W*?[:=][\s*_]*(.*?)[\s*_]*$", re.IGNORECASE)
_NAMED_CLIP: Final = re.compile(r"\bclips?\b\s*(?:no\.?|number|#)?\s*((?:\d+(?:\s*(?:,|and|&|/)\s*)?)+)", re.IGNORECASE)
_MARKS: Final = re.compile(r"\[\s*(?:clips?\s*)?(\d+(?:\s*,\s*\d+)*)\s*\]", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d+")
_TIME: Final = re.compile(r"\b(?:(\d{1,2}):)?(\d{1,2}):(\d{2})\b|\b(\d+(?:\.\d+)?)\s?(?:s|sec|seconds)\b")
_YES: Final = frozenset(("true", "yes", "1", "y"))
_NO: Final = frozenset(("false", "no", "0", "n", "none", "null"))
_DECLINED: Final = re.compile(
    r"(?:(?:\b(?:not|never|no(?:where)?|none of)|n't)\b[^.!?]{0,60}\b(?:answer\w*|mention\w*|said|say\w*|state\w*|discuss\w*|contain\w*"
    r"|provid\w*|support\w*|found|information)|\bunanswerable|\bcannot (?:be )?answer\w*|\bunable to (?:answer|find))",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"<[|/]?[\w▁|:.\-]{1,40}[|]?>|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, as far as it could be read.

    Attributes:
        answer: its words, on one line; may be empty.
        clips: the numbers it named, each once, in its order; unchecked.
        supported: its own verdict; None if it gave none.
        times_s: moments it named in seconds or mm:ss, in its order; of use where clips were joined to one sound.
    """

    answer: str
    clips: tuple[int, ...] = ()
    supported: bool | None = None
    times_s: tuple[float, ...] = ()


def schema(num_clips: int) -> Json:
    """Return the JSON schema of an answer to so many clips: no number beyond them can be named."""
    return {
        "type": "object",
        "properties": {
            "supported": {"type": "boolean"},
            "clips": {"type": "array", "items": {"type": "integer", "enum": list(range(1, num_clips + 1))}, "maxItems": num_clips},
            "answer": {"type": "string", "maxLength": MAX_ANSWER_CHARACTERS},
        },
        "required": ["supported", "clips", "answer"],
        "additionalProperties": False,
    }


def response_format(num_clips: int) -> Json:
    """Return the protocol's `response_format` for an answer to so many clips."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema(num_clips), "strict": True}}


def read_reply(text: str) -> Reply:
    """Read what a model answered: JSON, JSON in a fence or amid talk, JSON cut off or slightly wrong, labelled lines, or plain sentences.

    Raises:
        AnswerUnusable: there is nothing in it to read.
    """
    stripped = text.strip()
    if not stripped:
        raise AnswerUnusable("the model answered nothing: ask again, or choose another model")
    for reader in (_from_json, _from_broken_json, _from_lines):
        reply = reader(stripped)
        if reply is not None:
            return reply
    return _from_sentences(stripped)


def so_far(text: str) -> str:
    """Return the words of an answer that is still coming, fit to be shown: never a piece of JSON."""
    begins = _ANSWER_BEGINS.search(text)
    if begins is not None:
        return one_line(_string_from(text, begins.end()))
    return "" if text.lstrip()[:1] in ("", "{", "`") or '"' in text[:40] else one_line(text)


def one_line(text: str) -> str:
    """Return a model's words on one line without control signs and special tokens."""
    return " ".join(_CONTROL.sub(" ", text).split())


def _from_json(text: str) -> Reply | None:
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if isinstance(value, dict):
            fields = {str(key).strip().lower(): one for key, one in value.items()}
            if {"answer", "supported", "clips"} & fields.keys():
                return _from_fields(fields)
    return None


def _from_fields(fields: Mapping[str, Any]) -> Reply:
    raw = fields.get("answer")
    answer = one_line(raw) if isinstance(raw, str) else one_line(str(raw)) if isinstance(raw, int | float) else ""
    return Reply(answer, _numbers_in(fields.get("clips")), _verdict(fields.get("supported")), _times(answer))


def _from_broken_json(text: str) -> Reply | None:
    """Read fields of JSON that was cut off, or has single quotes or a comma too many."""
    if "{" not in text and "```" not in text:
        return None
    found: dict[str, str] = {}
    fields = list(_FIELD.finditer(text))
    for i, field in enumerate(fields):
        end = fields[i + 1].start() if i + 1 < len(fields) else len(text)
        found.setdefault(field.group(1).lower(), text[field.end() : end].strip())
    if not found:
        return None
    raw = found.get("answer", "")
    answer = _string_from(raw, 1) if raw[:1] == '"' else raw.rstrip(" \n`,}").strip("'“”")
    return Reply(
        one_line(answer), _numbers_in(found.get("clips", "")), _verdict(found.get("supported", "").strip(" ,}\n`")), _times(answer)
    )


def _from_lines(text: str) -> Reply | None:
    """Read `Answer: …`, `Clips: 1, 3`, `Supported: yes`, each on a line; what follows an answer belongs to it."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        match = _LABELLED.match(line)
        if match is not None:
            last = {"clip": "clips", "source": "clips", "sources": "clips"}.get(match.group(1).lower(), match.group(1).lower())
            fields[last] = match.group(2)
        elif last == "answer":
            fields[last] += f" {line}"
    if "answer" not in fields:
        return None
    sentences = _from_sentences(fields["answer"])
    verdict = _verdict(fields.get("supported"))
    return Reply(
        sentences.answer, _numbers_in(fields.get("clips", "")) or sentences.clips, sentences.supported if verdict is None else verdict,
        sentences.times_s,
    )  # fmt: skip


def _from_sentences(text: str) -> Reply:
    numbers = [number for match in _named(text) for number in _numbers_in(match)]
    answer = one_line(_MARKS.sub("", text))
    supported = False if _DECLINED.search(answer) and not numbers else None
    return Reply(answer, tuple(dict.fromkeys(numbers)), supported, _times(answer))


def _named(text: str) -> Sequence[str]:
    matches = sorted([*_MARKS.finditer(text), *_NAMED_CLIP.finditer(text)], key=lambda match: match.start())
    return [match.group(1) for match in matches]


def _numbers_in(value: object) -> tuple[int, ...]:
    """Return whole numbers, each once, out of a list, a number or a text."""
    if isinstance(value, bool) or value is None:
        return ()
    if isinstance(value, list):
        return tuple(dict.fromkeys(number for one in value for number in _numbers_in(one)))
    if isinstance(value, float) and not value.is_integer():
        return ()
    if isinstance(value, int | float):
        return (int(value),)
    return tuple(dict.fromkeys(int(number) for number in _NUMBER.findall(str(value)) if len(number) <= 6))


def _verdict(value: object) -> bool | None:
    if isinstance(value, bool) or value is None:
        return value
    word = str(value).strip().strip("\"'.").lower()
    return True if word in _YES else False if word in _NO else None


def _times(text: str) -> tuple[float, ...]:
    found = []
    for hours, minutes, seconds, plain in _TIME.findall(text):
        found.append(float(plain) if plain else int(hours or 0) * 3600.0 + int(minutes) * 60.0 + int(seconds))
    return tuple(found)


def _string_from(text: str, start: int) -> str:
    """Return the JSON string that begins (after its quotation mark) at `start`, as far as it goes and can be decoded."""
    at = start
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    raw = text[start : min(at, len(text))]
    for lost in range(min(len(raw), 12) + 1):  # an escape that is not whole yet; a surrogate pair is twelve signs
        try:
            value = json.loads(f'"{raw[: len(raw) - lost]}"', strict=False)
        except ValueError:
            continue
        decoded: str = value
        return decoded.encode("utf-8", "ignore").decode("utf-8")
    return ""
