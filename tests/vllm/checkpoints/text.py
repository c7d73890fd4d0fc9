"""Writes a tiny text model (Qwen2) with random weights: `python text.py FOLDER`."""

import sys
from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM
from vocabulary import END, MAX_TOKENS, PAD, make_tokenizer, padded_size, speak_in_letters, texts_of


def main(folder: Path) -> None:
    """Write configuration, weights and tokenizer."""
    tokenizer = make_tokenizer([])
    ends = {"eos_token_id": tokenizer.convert_tokens_to_ids(END), "pad_token_id": tokenizer.convert_tokens_to_ids(PAD)}
    config = Qwen2Config(
        vocab_size=padded_size(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=False,
        bos_token_id=None,
        **ends,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    speak_in_letters(model.lm_head.weight, texts_of(tokenizer))
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
