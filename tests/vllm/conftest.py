"""Runs the real vLLM server with tiny checkpoints of random weights; without `make vllm-env` these tests skip."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import psutil
import pytest
from tiny_llm import TinyServer, bring, serving, sound_part, text_part, tone, vllm_environment, wav, write_checkpoint

LEAST_MEMORY_BYTES = 7 * 2**30
Serve = Callable[..., AbstractContextManager[TinyServer]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here its marker, and the time that a start of the server takes on a busy machine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def environment() -> Path:
    """The folder of the environment that vLLM is in."""
    found = vllm_environment()
    if found is None:
        pytest.skip("there is no vLLM to start: `make vllm-env` builds it, `make test-vllm` does so first")
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX-512: vLLM's build for CPUs was tried with it only")
    if psutil.virtual_memory().available < LEAST_MEMORY_BYTES:
        pytest.skip("less than 7 GiB of memory are free: two vLLM servers take 6")
    return found


@pytest.fixture(scope="session")
def make_checkpoint(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Write a tiny checkpoint: `make_checkpoint(script, name)`; the name tells the family."""
    return lambda script, name: write_checkpoint(environment, script, tmp_path_factory.mktemp("checkpoints") / name)


@pytest.fixture(scope="session")
def serve(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Run a checkpoint for as long as a `with` lasts: `serve(checkpoint, "--family", "text")`."""
    return lambda checkpoint, *options: serving(environment, checkpoint, tmp_path_factory.mktemp("llm"), *options)


@pytest.fixture(scope="session")
def qwen2_audio(make_checkpoint: Callable[[str, str], Path], serve: Serve) -> Iterator[TinyServer]:
    """A server of a tiny Qwen2-Audio."""
    with serve(make_checkpoint("qwen2_audio", "Qwen2-Audio-Tiny")) as server:
        yield server


@pytest.fixture(scope="session")
def sounds() -> Callable[..., dict]:
    """A part of a message with a tone, or with the bytes of a file: `sounds(2.0, 300)`, `sounds(b"…")`."""
    return lambda what, hertz=300.0: sound_part(what if isinstance(what, bytes) else tone(what, hertz))


@pytest.fixture(scope="session")
def words() -> Callable[[str], dict]:
    """A part of a message with text."""
    return text_part


@pytest.fixture(scope="session")
def float_wav() -> Callable[[np.ndarray], bytes]:
    """A WAV file of floating-point samples, which can carry what is no number."""
    return lambda samples: wav(samples, float32=True)


@pytest.fixture(scope="session")
def make_evidence() -> Callable[..., object]:
    """Evidence by hand."""
    return bring
