"""Questions to a speech LLM on a real vLLM server (a tiny one, whose answers are random): how many at once, and what of the time is ours.

All but the first figure need `make vllm-env`. The server does next to nothing, so the share of our work is as great as it can be.
"""

import base64
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile
from measure import Figure

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

from tiny_llm import KEY, TinyServer, bring, serving, tone, vllm_environment, write_checkpoint

from generator.answer_format import read_reply, so_far
from generator.clips import plan_sounds
from generator.config import Served
from generator.families import PromptStyle, named_family
from generator.model_server import ModelServer
from generator.prompt import messages_with_sound
from generator.served import ServedGenerator, SoundBriefing
from retriever.domain import Question

NUM_QUESTIONS, NUM_CLIPS, CLIP_S, NUM_TOKENS = 24, 5, 12.0, 48


def measure(folder: Path) -> Iterator[Figure]:
    """Yield our processor time for a question as a share of the whole, and questions per second beside the bare protocol."""
    yield from of_the_longest_prompt()
    environment = vllm_environment()
    if environment is None:
        return
    os.environ["ASKALOUD_LLM_KEY"] = KEY
    checkpoint = write_checkpoint(environment, "qwen2_audio", folder / "Qwen2-Audio-Tiny")
    with serving(environment, checkpoint, folder) as server:
        config = Served(base_url=server.base_url, max_tokens=NUM_TOKENS, timeout_s=600.0)
        asked = ServedGenerator(config, ModelServer(config.base_url, config.api_key_env, config.timeout_s), SoundBriefing(config))
        evidence = [bring(f"clip {i}", 60.0 * i, CLIP_S) for i in range(NUM_CLIPS)]
        ours_ms, whole_ms = one_by_one(asked, evidence)
        name = f"served question, {NUM_CLIPS} clips of {CLIP_S:g} s"
        all_ours = f"{name}: our processor time, LangChain's for {NUM_TOKENS} pieces among it"
        yield Figure(all_ours, ours_ms, "ms", "the whole answer", whole_ms)
        for num_at_once in (1, 4, 8):
            bare = per_second(num_at_once, lambda i: bare_request(server, evidence, i))
            rate = per_second(num_at_once, lambda i: asked.answer(Question(text=f"What is said in part {i}?"), evidence))
            yield Figure(f"{name}, {num_at_once} at once", rate, "questions/s", "the same prompts posted bare", bare)


def of_the_longest_prompt() -> Iterator[Figure]:
    """Yield our processor time for the most that a question can send: five moments of 30 s and a spoken question of a minute.

    Needs no server: the prompt is made as for one, and a reply read as from one. Beside it, the same sound encoded by soundfile alone.
    """
    config = Served(model="qwen2-audio", max_clips=5)
    evidence = [bring(f"clip {i}", 60.0 * i, 30.0) for i in range(5)]
    question = Question(audio=tone(60.0, 300))
    reply = json.dumps({"supported": True, "clips": [1, 3], "answer": "One hundred thousand times every day. " * 12})
    briefing = SoundBriefing(config)
    ours, bare = [], []
    for _ in range(NUM_QUESTIONS):
        began = time.thread_time()
        brief = briefing.brief(question, evidence, config.model)
        json.dumps(brief.messages)  # as the client will
        for end in range(0, len(reply), 4):  # every piece that streams in is looked at
            so_far(reply[:end])
        read_reply(reply)
        ours.append(1000 * (time.thread_time() - began))
        began = time.thread_time()
        for sound in (*(one.load_audio() for one in evidence), question.audio):
            file = io.BytesIO()
            soundfile.write(file, sound.samples, 16_000, format="WAV", subtype="PCM_16")
            base64.b64encode(file.getvalue())
        bare.append(1000 * (time.thread_time() - began))
    name = "served question, 5 clips of 30 s and 60 s of question: cutting, encoding, prompt, parsing"
    yield Figure(name, statistics.median(ours), "ms", "soundfile and base64 alone", statistics.median(bare), "under 30 ms")


def one_by_one(asked: ServedGenerator, evidence: list) -> tuple[float, float]:
    """Return the medians of our thread's processor time and of the wall time of a question, in ms."""
    ours, whole = [], []
    asked.answer(Question(text="Load everything first."), evidence)
    for i in range(NUM_QUESTIONS):
        question = Question(audio=tone(3.0, 250 + i))
        wall, processor = time.perf_counter(), time.thread_time()
        asked.answer(question, evidence)
        ours.append(1000 * (time.thread_time() - processor))
        whole.append(1000 * (time.perf_counter() - wall))
    return statistics.median(ours), statistics.median(whole)


def per_second(num_at_once: int, ask) -> float:
    """Return how many questions per second are answered with so many threads asking."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(num_at_once) as pool:
        list(pool.map(ask, range(NUM_QUESTIONS)))
    return NUM_QUESTIONS / (time.perf_counter() - begun)


def bare_request(server: TinyServer, evidence: list, number: int) -> None:
    """Post the prompt that our client would send, without streaming, and read nothing of what comes."""
    messages = messages_with_sound(
        plan_sounds(None, evidence, named_family("qwen2-audio"), NUM_CLIPS), f"What is said in part {number}?", PromptStyle.SYSTEM
    )
    asked = {"model": server.model, "messages": messages, "max_tokens": NUM_TOKENS, "temperature": 0}
    answered = server.post("/chat/completions", asked)
    if answered.status != 200:
        raise RuntimeError(answered.complaint)
