"""Makes what all tiny checkpoints share: a byte-level BPE learned on the spot, a chat template, an output layer that speaks in letters.

Runs in vLLM's environment; the tests start the scripts beside it as programs.
"""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
MAX_TOKENS = 16384
SHARPER = 10.0  # random attention is nearly uniform: made sharper, the model hears what comes when
SENTENCES = [
    "Answer the question from the numbered clips of the lectures, and from nothing else.",
    "Clip 1 of the lecture, from 0:00 to 0:30. Clip 2 of the lecture. Question: what does the speaker say?",
    "The speaker explains why the step must be small. The lectures do not say it. I do not know.",
    '{"answer": "the heart beats every day", "clips": [1, 2], "supported": true} {"supported": false}',
    "0 1 2 3 4 5 6 7 8 9 . , : ; ? ! yes no true false answer clip clips lecture user assistant system",
]


def learn_bpe(vocab_size: int = 600) -> Tokenizer:
    """Return a byte-level BPE; the first 256 entries are the bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 20, trainer)
    return tokenizer


def make_tokenizer(special: list[str], audio_placeholder: str = "") -> PreTrainedTokenizerFast:
    """Return a tokenizer with a chat template in which each sound part becomes the placeholder."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learn_bpe(),
        additional_special_tokens=[START, END, *special],
        eos_token=END,
        pad_token=PAD,
        model_max_length=MAX_TOKENS,
    )
    sound = (
        "{% if c['type'] in ('audio', 'input_audio', 'audio_url') %}" + audio_placeholder + "\n{% elif c['type'] == 'text' %}"
        if audio_placeholder
        else "{% if c['type'] == 'text' %}"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}" + START + "{{ m['role'] }}\n"
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
        + sound
        + "{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
        + END
        + "\n{% endfor %}{% if add_generation_prompt %}"
        + START
        + "assistant\n{% endif %}"
    )
    return tokenizer


def padded_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the number of rows of the embedding, a multiple of 64."""
    return (len(tokenizer) + 63) // 64 * 64


def speak_in_letters(rows: torch.Tensor, texts: list[str | None]) -> None:
    """Change output rows (V, D) in place so that greedy decoding of random weights gives printable text.

    Rows of special tokens, broken UTF-8, control characters and blanks become zero: their logit is 0, and among hundreds of random
    logits the largest is above that. So do those with which "false" begins or a list ends: what reads the answers shall find clips in
    them. The rest are made larger, so that rounding does not decide.

    Args:
        rows: of the output layer.
        texts: what each entry decodes to; None for special tokens and padding.
    """
    with torch.no_grad():
        for index in range(len(rows)):
            if not _speakable(texts[index] if index < len(texts) else None):
                rows[index] = 0
        rows.mul_(8)


def _speakable(text: str | None) -> bool:
    if not text or not text.isascii() or not text.isprintable() or not text.strip():
        return False
    return "]" not in text and not "false".startswith(text)


def texts_of(tokenizer: PreTrainedTokenizerFast) -> list[str | None]:
    """Return what each entry decodes to; None for special tokens."""
    special = set(tokenizer.all_special_ids)
    return [None if index in special else tokenizer.decode([index]) for index in range(len(tokenizer))]
