"""Writes a tiny Qwen2-Audio with random weights: `python qwen2_audio.py FOLDER`."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GenerationConfig,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)
from vocabulary import END, MAX_TOKENS, PAD, SHARPER, make_tokenizer, padded_size, speak_in_letters, texts_of

AUDIO, AUDIO_BEGIN, AUDIO_END = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"


def main(folder: Path) -> None:
    """Write configuration, weights, tokenizer and processor."""
    tokenizer = make_tokenizer([AUDIO_BEGIN, AUDIO, AUDIO_END], AUDIO_BEGIN + AUDIO + AUDIO_END)
    id_of = tokenizer.convert_tokens_to_ids
    ends = {"eos_token_id": id_of(END), "pad_token_id": id_of(PAD)}
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": 128,
            "d_model": 64,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "max_source_positions": 1500,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": padded_size(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": MAX_TOKENS,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            **ends,
        },
        audio_token_index=id_of(AUDIO),
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config).to(torch.bfloat16)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "language_model" in name and ("q_proj" in name or "k_proj" in name):
                weight.mul_(SHARPER)
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=128, sampling_rate=16000, hop_length=160, chunk_length=30, n_fft=400)
    processor = Qwen2AudioProcessor(
        feature_extractor=extractor,
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
        audio_token=AUDIO,
        audio_bos_token=AUDIO_BEGIN,
        audio_eos_token=AUDIO_END,
    )
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = {_published_name(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    speak_in_letters(weights["language_model.lm_head.weight"], texts_of(tokenizer))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _published_name(name: str) -> str:
    """Return the name that published checkpoints and vLLM use; transformers 5.19 nests the language model once more."""
    name = name.replace("language_model.model.model.", "language_model.model.")
    return "language_model.lm_head.weight" if name.endswith("lm_head.weight") else name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
