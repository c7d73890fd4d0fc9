"""The training of CLSR's published form, small: it learns what is said, stops, goes on, and joins the retrieval loss."""

import gzip
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="training needs torch (extra `train`)")

from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from retriever import ngram_model, pronunciations  # noqa: E402
from retriever.checkpoint import save_weights  # noqa: E402
from retriever.nets.cif import CifConfig  # noqa: E402
from retriever.nets.clsr import CifWordPieces, ClsrConfig  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig  # noqa: E402
from retriever.nets.recogniser import Recogniser, RecogniserConfig  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402
from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig  # noqa: E402
from retriever.ngram_model import NgramModel, Ngrams, encode, encode_backoffs  # noqa: E402
from retriever.pronunciations import PHONES, Pronunciations  # noqa: E402
from retriever.sentence_encoder import MINILM  # noqa: E402
from retriever.training.augmentation import Augmentation, AugmentationConfig  # noqa: E402
from retriever.training.frame import Schedule, Trainer  # noqa: E402
from retriever.training.published import main  # noqa: E402
from retriever.training.published_learning import PublishedTraining, Stage, WordPieceLearner, alignment_loss  # noqa: E402
from retriever.training.published_measure import measured  # noqa: E402
from retriever.training.published_retriever import Piece, load_published, words_of  # noqa: E402
from retriever.training.published_targets import OTHER, Speller, Targets, WordRows, choose_words, even_weights  # noqa: E402
from retriever.training.utterances import NO_TARGET, BatchConfig, Batches, PhoneTargets, Utterance, read_source  # noqa: E402

TONES = {"one": 400.0, "two": 1_100.0, "three": 2_600.0}
PHONE_OF = {"one": "aa", "two": "ae", "three": "ah"}
TEXT = {"dimension": 8, "num_layers": 1, "num_heads": 2, "feed_forward_dimension": 8, "max_positions": 64}
FACTS = (
    ("What orbits the sun?", "The small blue planet orbits its sun once a year."),
    ("Who wrote the book?", "A quiet teacher from the north wrote the book in winter."),
    ("What do bees make?", "All summer long the bees make honey from wild flowers."),
)

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not here (Debian: apt-get install espeak-ng)")


@pytest.fixture
def tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    made.no_truncation()
    made.no_padding()
    return made


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A recogniser with weights by chance, and words that are tones, each as long as it has letters: what can be learnt in seconds."""
    torch.manual_seed(0)
    block = BlockConfig(32, 2, 48, num_taps=3, dropout=0.0)
    net = Recogniser(RecogniserConfig(encoder=ParaformerConfig(num_encoder_blocks=1, num_decoder_blocks=0, block=block), tap_block=1))
    net.frontend.set_cmvn(torch.full((560,), -9.0), torch.full((560,), 0.3))
    (tmp_path / "recogniser").mkdir()
    (tmp_path / "recogniser/state.json").write_text(json.dumps({"config": asdict(net.config)}))
    save_file(net.state_dict(), tmp_path / "recogniser/average.safetensors")
    (tmp_path / "lexicon.tsv").write_text("one\taa\ntwo\tae\nthree\tah\n")
    (tmp_path / "phones.txt").write_text("\n".join(PHONES) + "\n")
    for source, texts in (("native", ["one two three two", "three one"]), ("tone-dev", ["three one"])):
        (tmp_path / "speech" / source).mkdir(parents=True)
        sounds, lines, offset = [], [], 0
        for text in texts:
            sound, phones = np.zeros(0), []
            for word in text.split():
                lasting = 1_440 * len(word)
                sound = np.r_[sound, np.sin(np.arange(lasting) / 16_000 * 2 * np.pi * TONES[word]) * 0.3]
                phones.append([PHONE_OF[word], len(sound)])
            lines.append({"offset": offset, "samples": len(sound), "text": text, "voice": "tone-a", "split": "x", "phones": phones})
            sounds.append((sound * 32_767).astype("<i2"))
            offset += len(sound)
        np.concatenate(sounds).tofile(tmp_path / "speech" / source / "000.pcm")
        (tmp_path / "speech" / source / "000.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise/hiss.flac", np.random.default_rng(0).standard_normal(8_000) * 0.01, 16_000)
    return tmp_path


def run(made: Path, out: str, *more: str) -> Path:
    paths = {"--recogniser": "recogniser", "--speech": "speech", "--noise": "noise", "--lexicon": "lexicon.tsv", "--phones": "phones.txt"}
    fixed = [part for option, name in paths.items() for part in (option, str(made / name))]
    sizes = ["--shares", "native=1", "--batch-s", "3", "--num-words", "60", "--num-decoder-blocks", "1", "--text-config", json.dumps(TEXT)]
    even = ["--decay-steps", "1", "--warmup-steps", "1"]  # one rate in all steps, so that another number of steps changes none of them
    main([*fixed, *sizes, *even, "--tokenizer", str(MINILM / "tokenizer.json"), "--out", str(made / out), *more])
    return made / out


def test_it_learns_to_write_two_utterances_and_how_many_tokens_they_have(made: Path, tokenizer: Tokenizer) -> None:
    phones = PhoneTargets.read(made / "lexicon.tsv", made / "phones.txt")
    said = read_source(made / "speech/native", phones, {})
    rows = WordRows(tokenizer, choose_words(tokenizer, [one.text for one in said], 60), phones)
    block = BlockConfig(32, 2, 48, num_taps=3, dropout=0.0)
    source = CifWordPieces(ParaformerConfig(560, 1, 1, block), cif=CifConfig(32), num_words=len(rows.words))
    recogniser = Recogniser(RecogniserConfig(encoder=ParaformerConfig(560, 1, 0, block), tap_block=1))
    recogniser.load_state_dict(load_file(made / "recogniser/average.safetensors"))
    net = WordPieceLearner(ClsrConfig(source, TextEncoderConfig(**TEXT)), source, recogniser)
    net.words.copy_(torch.tensor(rows.words))
    training = PublishedTraining(frozen_steps=5, aligned_steps=120, reuse=2, encoder_factor=1.0)
    trainer = Trainer(net, Schedule(300, 150, 5, 5e-3), made / "out", {"config": asdict(net.config)}, net.rate_groups(1.0))
    stage = Stage(net, trainer, rows, training)
    batches = Batches(
        made / "speech", phones, Augmentation.of_folder(AugmentationConfig(), made / "noise"), BatchConfig({"native": 1.0}, 6.0)
    )
    before = {name: weight.clone() for name, weight in net.named_parameters()}
    stream = batches.from_step(0, 0)
    for _ in range(5):
        stage.learn(next(stream), None)
    moved = {name for name, weight in net.named_parameters() if not torch.equal(weight, before[name])}
    assert "output.weight" in moved
    assert not any(name.startswith(("encoder.", "ctc.", "text_encoder.")) for name in moved)
    for _ in range(295):
        told = stage.learn(next(stream), None)
    assert told.keys() == {"cross_entropy", "quantity", "alignment", "ctc"}
    trainer.save()
    rates = measured(load_published(made / "out"), tokenizer, made / "speech", phones, 5)
    assert rates == {"tone-dev tone": {"words": 0.0, "tokens": 0.0, "written": 1.0}}


def test_what_was_stopped_ends_where_an_uninterrupted_run_ends(made: Path) -> None:
    run(made, "part", "--steps", "2", "--frozen-steps", "1")
    assert json.loads((made / "part/state.json").read_text())["step"] == 2
    (made / "speech/native/001.jsonl").write_text("")  # a shard without clips changes nothing
    parted, whole = run(made, "part", "--steps", "4", "--frozen-steps", "1"), run(made, "whole", "--steps", "4", "--frozen-steps", "1")
    for name in ("net.safetensors", "average.safetensors"):
        first, second = load_file(parted / name), load_file(whole / name)
        assert first.keys() == second.keys()
        assert not any(key.startswith("text_encoder.") for key in first)
        for key in first:
            torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
    assert json.loads((parted / "state.json").read_text())["heard_s"] == json.loads((whole / "state.json").read_text())["heard_s"]


@needs_espeak
def test_the_retrieval_loss_joins_a_run_that_begins_with_another(made: Path) -> None:
    words = sorted({word.strip(".").lower() for _, context in FACTS for word in context.split()})
    lexicon = {word: [tuple(PHONES[ord(letter) % len(PHONES)] for letter in word)] for word in words}
    vocabulary, none, ids = ("<s>", *words), np.zeros(0, np.uint8), np.zeros(0, np.uint16)
    (made / "search").mkdir()
    Pronunciations.of(lexicon, vocabulary).save(made / "search" / pronunciations.FILE_NAME)
    num = len(vocabulary)
    even = encode(np.log(np.full(num, 1 / (num - 1))))
    model = NgramModel(Ngrams(vocabulary, even, encode_backoffs(np.zeros(num)), np.zeros(num, np.uint16), ids, none, none, ids, ids, none))
    model.save(made / "search" / ngram_model.FILE_NAME)
    (made / "qa").mkdir()
    rows = [
        {
            "title": "t",
            "context": context,
            "question": question,
            "answers": [{"text": "x", "start": 4}],
            "split": "train",
            "level": "passage",
        }
        for question, context in FACTS
    ]
    with gzip.open(made / "qa/qed.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)) + "\n")
    save_weights(TextEncoder(TextEncoderConfig(**TEXT)), made / "text.safetensors")
    first = run(made, "first", "--steps", "1")
    paths = {"--search": "search", "--qa": "qa", "--text-weights": "text.safetensors", "--start": "first"}
    given = [part for option, name in paths.items() for part in (option, str(made / name))]
    options = [*given, "--sources", "qed", "--num-pairs", "3", "--flite-share", "0", "--steps", "2"]
    joint = run(made, "joint", *options, "--retrieval-weight", "0.5")
    alone = run(made, "alone", "--start", str(made / "first"), "--steps", "2")
    begun, after, without = (load_file(folder / "net.safetensors") for folder in (first, joint, alone))
    assert torch.equal(begun["words"], after["words"])
    moved = "encoder.blocks.0.feed_forward.widen.weight"
    assert not torch.equal(begun[moved], after[moved])  # no frozen steps after a first stage
    assert not torch.equal(without[moved], after[moved])
    assert json.loads((joint / "state.json").read_text())["training"]["retrieval_weight"] == 0.5


def test_words_end_where_their_phones_do_and_tokens_within_by_letters(tokenizer: Tokenizer) -> None:
    phones = PhoneTargets(["f", "ih", "ng"], {"fishing": (1, 2, 3), "is": (2,)})
    one = Utterance(Path("x"), 0, 48_000, "fishing is", "v", (1, 2, 3, 2), (), ())
    other = Utterance(Path("x"), 0, 48_000, "is fishing", "v", (2, 1, 2), (), ())
    numbers = tokenizer.get_vocab()
    rows = WordRows(tokenizer, [numbers[name] for name in ("[UNK]", "fish", "##ing")], phones)
    found = [(1_000, 2_000), (2_000, 3_000), (3_000, 8_000), (9_000, 10_000)]
    targets = rows.of_utterances([one, other], [found, found[:3]])
    assert targets.ends.tolist() == [[5_000, 8_000, 10_000], [NO_TARGET] * 3]  # of the second, which phones are whose is not certain
    assert targets.rows.tolist() == [[1, 2, OTHER], [OTHER, 1, 2]]
    assert targets.known.tolist() == [[True, True, False], [False, True, True]]
    weights = even_weights(targets, torch.ones(2, 12, dtype=torch.bool), 1_000)
    assert weights[0].cumsum(dim=0)[[4, 7, 9, 11]].tolist() == pytest.approx([1, 2, 3, 3])
    assert weights[1].sum() == 0


def test_with_the_whole_vocabulary_words_are_spelled_as_the_tokeniser_does(tokenizer: Tokenizer) -> None:
    speller = Speller(tokenizer.get_vocab())
    for text in ("unbelievable jellyfish don't zyzzyva", "o'clock phoresis the", "a"):
        spelled = [piece for word in text.split() for piece, _ in speller.spell(word)]
        assert spelled == tokenizer.encode(text, add_special_tokens=False).tokens
    assert speller.spell("don't") == [("don", 3), ("'", 4), ("t", 5)]
    assert Speller(["a"]).spell("ab") == [("[UNK]", 2)]


def test_the_words_chosen_are_few_and_spell_everything(tokenizer: Tokenizer) -> None:
    texts = ["the fishing of the fish", "thinking of the fishing"]
    few, more = choose_words(tokenizer, texts, 56), choose_words(tokenizer, texts, 70)
    assert len(few) == 57  # and the one for what cannot be spelled
    assert len(few) < len(more) <= 71
    assert tokenizer.token_to_id("the") in few
    rows = WordRows(tokenizer, few, PhoneTargets([], {}))
    assert "[UNK]" not in rows.pieces("quixotic don't")
    assert len(WordRows(tokenizer, more, PhoneTargets([], {})).pieces(texts[0])) < len(rows.pieces(texts[0]))


def test_the_predictor_is_measured_against_true_ends_where_they_are_known() -> None:
    mask = torch.ones(2, 2, dtype=torch.bool)
    targets = Targets(torch.ones(2, 2, dtype=torch.int64), mask, torch.zeros(2, 2, dtype=torch.int64))
    true = torch.tensor([[0.5, 0.5, 1.0], [0.0, 0.0, 0.0]])
    assert alignment_loss(torch.tensor([[0.5, 0.3, 1.0], [9.0, 9.0, 9.0]]), true, targets).item() == pytest.approx(0.1)
    assert alignment_loss(true, torch.zeros(2, 3), targets) == 0


def test_pieces_make_words_with_apostrophes_and_times() -> None:
    heard = [Piece("##un", 960, 0.9), Piece("##der", 1_920, 0.5), Piece("don", 1_920, 1.0), Piece("'", 2_880, 1.0), Piece("t", 3_840, 0.8)]
    words = words_of([*heard, Piece("'", 4_000, 1.0), Piece("[UNK]", 4_800, 1.0), Piece("go", 5_760, 1.0)])
    assert [(word.text, word.start, word.end, word.confidence) for word in words] == [
        ("under", 0, 1_920, 0.5),
        ("don't", 1_919, 3_840, 0.8),
        ("go", 4_800, 5_760, 1.0),
    ]
