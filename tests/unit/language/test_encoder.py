from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import AssetError
from harness.language.encoder import SentenceEncoder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with mean pooling and no normalisation, as sentence encoder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    base = tmp_path_factory.mktemp("bert")
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = {t: n for n, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters])}
    vocabulary |= {f"##{c}": len(vocabulary) + n for n, c in enumerate(letters)}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    PreTrainedTokenizerFast(tokenizer_object=raw, **special).save_pretrained(base)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
        )
    )
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream) * 0.2)
    model.save_pretrained(base)
    transformer = Transformer(str(base))
    pooling = Pooling(32)
    folder = tmp_path_factory.mktemp("tiny-encoder")
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder))
    return folder


TEXTS = ["Alien", "The Truth About Cats & Dogs", "Heat", "Alien", "Big"]


def test_order_duplicates_and_padding(tiny_encoder: Path) -> None:
    encoder = SentenceEncoder(tiny_encoder)
    together = encoder.encode(TEXTS)
    assert together.dtype == np.float32
    assert together.shape == (5, 32)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_array_equal(together[0], together[3])
    assert not np.allclose(together[0], together[2], atol=1e-3)


def test_normalising_scales_and_nothing_else(tiny_encoder: Path) -> None:
    encoder = SentenceEncoder(tiny_encoder)
    raw, unit = encoder.encode(TEXTS, normalise=False), encoder.encode(TEXTS)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(norms - 1).max() > 0.01
    np.testing.assert_allclose(unit, raw / norms, rtol=1e-6)


def test_a_warm_cache_gives_the_same_bytes_without_the_model(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    cold = SentenceEncoder(tiny_encoder, cache=tmp_path)
    first = cold.encode(TEXTS)
    warm = SentenceEncoder(tiny_encoder, cache=tmp_path)
    np.testing.assert_array_equal(warm.encode(TEXTS), first)
    assert cold.loaded
    assert not warm.loaded
    np.testing.assert_array_equal(warm.encode(TEXTS[::-1]), first[::-1])
    assert not warm.loaded, "another order is cut into the same batches"
    warm.encode(TEXTS[:2])
    assert warm.loaded


def test_shares_of_other_processes_give_the_same_bytes(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = [f"Title {number % 90} {'x' * (number % 7)}" for number in range(300)]

    def encoder(cache: Path | None, said: list[str] | None = None) -> SentenceEncoder:
        say = (said if said is not None else []).append
        return SentenceEncoder(tiny_encoder, cache=cache, batch_size=4, progress=say)

    said: list[str] = []
    whole = encoder(None, said).encode(texts)
    distinct = len(set(texts))
    assert said[-1] == f"encoding texts: {distinct} of {distinct}"
    assert "left" in said[0]
    for part in (2, 0, 1):
        encoder(tmp_path).encode_part(texts, part, 3)
    shared = encoder(tmp_path)
    np.testing.assert_array_equal(shared.encode(texts), whole)
    assert not shared.loaded
    again = encoder(tmp_path)
    again.encode_part(texts, 0, 1)
    assert not again.loaded


def test_an_interrupt_is_heard_between_blocks(tiny_encoder: Path, tmp_path: Path) -> None:
    def stop(text: str) -> None:
        raise KeyboardInterrupt

    texts = [f"Title {number}" for number in range(40)]
    halted = SentenceEncoder(tiny_encoder, cache=tmp_path, batch_size=4, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        halted.encode(texts)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 1, "the block that was done is kept"


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AssetError, match="can't be loaded"):
        SentenceEncoder(tmp_path).encode(["x"])
    with pytest.raises(ValueError, match="nothing"):
        SentenceEncoder(tmp_path).encode([])
