"""Questions to a speech LLM on a real vLLM server (a tiny one, whose answers are random): how many at once, and what of the time is ours.

Needs `make vllm-env`. The server does next to nothing, so the share of our work is as great as it can be.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import Figure

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

from tiny_llm import KEY, TinyServer, bring, serving, tone, vllm_environment, write_checkpoint

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
        yield Figure(f"{name}: our own processor time", ours_ms, "ms", "the whole answer", whole_ms, "under 30 ms")
        for num_at_once in (1, 4, 8):
            bare = per_second(num_at_once, lambda i: bare_request(server, evidence, i))
            rate = per_second(num_at_once, lambda i: asked.answer(Question(text=f"What is said in part {i}?"), evidence))
            yield Figure(f"{name}, {num_at_once} at once", rate, "questions/s", "the same prompts posted bare", bare)


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
