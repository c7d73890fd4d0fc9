"""Writes a tiny Voxtral with random weights, in Mistral's own file formats: `python voxtral.py FOLDER`."""

import base64
import json
import sys
from pathlib import Path

import torch
from mistral_common.tokens.tokenizers.base import SpecialTokens
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from vocabulary import MAX_TOKENS, SHARPER, learn_bpe, speak_in_letters

DIM, HIDDEN, NUM_LAYERS, NUM_HEADS = 64, 128, 2, 2
AUDIO_DIM, AUDIO_HIDDEN, NUM_AUDIO_LAYERS, NUM_AUDIO_HEADS = 64, 128, 2, 4
NUM_MELS, SAMPLE_RATE, HOP, WINDOW, MAX_FRAMES, STACKED = 128, 16000, 160, 400, 1500, 4
NUM_SPECIAL = 64
SPECIAL = [
    SpecialTokens.unk,
    SpecialTokens.bos,
    SpecialTokens.eos,
    SpecialTokens.begin_inst,
    SpecialTokens.end_inst,
    SpecialTokens.begin_tools,
    SpecialTokens.end_tools,
    SpecialTokens.begin_tool_results,
    SpecialTokens.end_tool_results,
    SpecialTokens.tool_calls,
    SpecialTokens.img,
    SpecialTokens.pad,
    SpecialTokens.img_break,
    SpecialTokens.img_end,
    SpecialTokens.prefix,
    SpecialTokens.middle,
    SpecialTokens.suffix,
    SpecialTokens.begin_system,
    SpecialTokens.end_system,
    SpecialTokens.begin_tool_content,
    SpecialTokens.args,
    SpecialTokens.call_id,
    SpecialTokens.audio,
    SpecialTokens.begin_audio,
    SpecialTokens.transcribe,
]
PATTERN = r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


def main(folder: Path) -> None:
    """Write parameters, tokenizer and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = _pieces()
    vocab_size = NUM_SPECIAL + len(pieces)
    (folder / "params.json").write_text(json.dumps(_params(vocab_size)))
    (folder / "tekken.json").write_text(json.dumps(_tekken(pieces)))
    weights = _weights(vocab_size)
    texts = [None] * NUM_SPECIAL + [piece.decode("utf-8", "ignore") for piece in pieces]
    speak_in_letters(weights["output.weight"], texts)
    save_file({name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}, folder / "consolidated.safetensors")


def _pieces() -> list[bytes]:
    """Return the bytes of each entry: first the 256 bytes, then what was merged, in order of merging."""
    byte_of = _alphabet()
    merges = json.loads(learn_bpe().to_str())["model"]["merges"]
    merged = [bytes(byte_of[c] for c in "".join(pair if isinstance(pair, list) else pair.split(" "))) for pair in merges]
    return [bytes([value]) for value in range(256)] + list(dict.fromkeys(merged))


def _alphabet() -> dict[str, int]:
    """Return which byte each letter of the byte-level alphabet stands for."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # stand for themselves; the rest follows from 256 on
    letters = {chr(value): value for value in plain}
    letters |= {chr(256 + i): value for i, value in enumerate(v for v in range(256) if v not in plain)}
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    return letters


def _params(vocab_size: int) -> dict[str, object]:
    sound = {"sampling_rate": SAMPLE_RATE, "num_mel_bins": NUM_MELS, "hop_length": HOP, "window_size": WINDOW}
    encoder = {
        "dim": AUDIO_DIM,
        "n_layers": NUM_AUDIO_LAYERS,
        "head_dim": AUDIO_DIM // NUM_AUDIO_HEADS,
        "hidden_dim": AUDIO_HIDDEN,
        "n_heads": NUM_AUDIO_HEADS,
        "vocab_size": 51866,
        "max_source_positions": MAX_FRAMES,
        "audio_encoding_args": sound,
    }
    return {
        "dim": DIM,
        "n_layers": NUM_LAYERS,
        "head_dim": DIM // NUM_HEADS,
        "hidden_dim": HIDDEN,
        "n_heads": NUM_HEADS,
        "n_kv_heads": NUM_HEADS,
        "norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": vocab_size,
        "max_position_embeddings": MAX_TOKENS,
        "multimodal": {"whisper_model_args": {"encoder_args": encoder, "downsample_args": {"downsample_factor": STACKED}}},
    }


def _tekken(pieces: list[bytes]) -> dict[str, object]:
    vocab = []
    for rank, piece in enumerate(pieces):
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            text = None
        vocab.append({"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": text})
    special = [{"rank": rank, "token_str": str(token), "is_control": True} for rank, token in enumerate(SPECIAL)]
    return {
        "vocab": vocab,
        "special_tokens": special,
        "config": {
            "pattern": PATTERN,
            "num_vocab_tokens": len(pieces),
            "default_vocab_size": NUM_SPECIAL + len(pieces),
            "default_num_special_tokens": NUM_SPECIAL,
            "version": "v11",
        },
        "version": 1,
        "type": "Tekken",
        "audio": {
            "sampling_rate": SAMPLE_RATE,
            "frame_rate": SAMPLE_RATE / HOP / 2 / STACKED,
            "audio_encoding_config": {"num_mel_bins": NUM_MELS, "hop_length": HOP, "window_size": WINDOW},
            "chunk_length_s": 30.0,
        },
    }


def _weights(vocab_size: int) -> dict[str, torch.Tensor]:
    """Return random weights under the names of published checkpoints: norms are ones, matrices normal."""
    torch.manual_seed(0)
    prefix = "mm_whisper_embeddings."
    encoder = f"{prefix}whisper_encoder."
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}tok_embeddings.weight": (vocab_size, DIM),
        f"{prefix}audio_language_projection.0.weight": (DIM, AUDIO_DIM * STACKED),
        f"{prefix}audio_language_projection.2.weight": (DIM, DIM),
        "output.weight": (vocab_size, DIM),
        "norm.weight": (DIM,),
        f"{encoder}conv_layers.0.weight": (AUDIO_DIM, NUM_MELS, 3),
        f"{encoder}conv_layers.0.bias": (AUDIO_DIM,),
        f"{encoder}conv_layers.1.weight": (AUDIO_DIM, AUDIO_DIM, 3),
        f"{encoder}conv_layers.1.bias": (AUDIO_DIM,),
        f"{encoder}transformer.norm.weight": (AUDIO_DIM,),
        f"{encoder}transformer.norm.bias": (AUDIO_DIM,),
    }
    for layer in range(NUM_AUDIO_LAYERS):
        shapes |= _encoder_layer(f"{encoder}transformer.layers.{layer}.")
    for layer in range(NUM_LAYERS):
        shapes |= _decoder_layer(f"layers.{layer}.")
    return {name: _drawn(name, shape) for name, shape in shapes.items()}


def _encoder_layer(prefix: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}attention.wk.weight": (AUDIO_DIM, AUDIO_DIM)}  # the key has no bias
    for name in ("attention.wq", "attention.wv", "attention.wo"):
        shapes |= {f"{prefix}{name}.weight": (AUDIO_DIM, AUDIO_DIM), f"{prefix}{name}.bias": (AUDIO_DIM,)}
    for name in ("attention_norm", "ffn_norm"):
        shapes |= {f"{prefix}{name}.weight": (AUDIO_DIM,), f"{prefix}{name}.bias": (AUDIO_DIM,)}
    return shapes | {
        f"{prefix}feed_forward.w1.weight": (AUDIO_HIDDEN, AUDIO_DIM),
        f"{prefix}feed_forward.w1.bias": (AUDIO_HIDDEN,),
        f"{prefix}feed_forward.w2.weight": (AUDIO_DIM, AUDIO_HIDDEN),
        f"{prefix}feed_forward.w2.bias": (AUDIO_DIM,),
    }


def _decoder_layer(prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        **{f"{prefix}attention.{name}.weight": (DIM, DIM) for name in ("wq", "wk", "wv", "wo")},
        f"{prefix}feed_forward.w1.weight": (HIDDEN, DIM),
        f"{prefix}feed_forward.w2.weight": (DIM, HIDDEN),
        f"{prefix}feed_forward.w3.weight": (HIDDEN, DIM),
        f"{prefix}attention_norm.weight": (DIM,),
        f"{prefix}ffn_norm.weight": (DIM,),
    }


def _drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    if name.endswith("bias"):
        return torch.zeros(shape)
    sharp = name.startswith("layers.") and name.endswith(("wq.weight", "wk.weight"))
    return torch.randn(shape) * (0.02 * SHARPER if sharp else 0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
