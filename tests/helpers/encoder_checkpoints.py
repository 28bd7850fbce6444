"""Tiny checkpoints of Transformers' own classes: width 32, two layers, weights that distinguish
items.

Each function writes a folder as `save_pretrained` does: weights, tokenizer and image processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXTS = (
    "a cat",
    "two children build a castle of sand at the beach, and a dog looks on",
    "红色的船停在码头",
    "a cat",
    "",
)
"""Short, long, Chinese, repeated and empty."""
WIDTH = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
EDGE = {"image_size": 32, "patch_size": 8}


def randomize(model: Any, seed: int = 0) -> Any:
    """Initialize all matrices with a deviation that gives different inputs different vectors."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.normal_(std=0.25)
            elif "scale" not in name and "norm" not in name.lower():
                p.normal_(std=0.05)
    return model.eval()


def _corpus() -> list[str]:
    return [
        *TEXTS,
        "the quick brown fox jumps over a lazy dog",
        "judge my vow, black sphinx",
        "0123456789 .!?",
    ]


def clip_tokenizer() -> Any:
    """CLIP's tokenizer, with single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77
    )


def bert_tokenizer(**options: Any) -> Any:
    """BERT's tokenizer, with single letters and Chinese characters."""
    from transformers import BertTokenizer

    letters = sorted(
        {letter for text in _corpus() for letter in text.lower() if not letter.isspace()}
    )
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)}, **options)


def sentence_pieces(folder: Path) -> Path:
    """Train a SentencePiece model for SigLIP's tokenizer."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_corpus()),
        model_writer=model,
        vocab_size=72,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=9,
    )
    path = folder / "spiece.model"
    path.write_bytes(model.getvalue())
    return path


def _save(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def clip(folder: Path, seed: int = 0) -> Path:
    """CLIP: at most 24 tokens, vectors of length 16."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    tokenizer = clip_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = (
        WIDTH
        | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "projection_dim": 16}
        | ends
    )
    config = CLIPConfig(
        text_config=text, vision_config=WIDTH | EDGE | {"projection_dim": 16}, projection_dim=16
    )
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return _save(folder, randomize(CLIPModel(config), seed), CLIPProcessor(pictures, tokenizer))


def chinese_clip(folder: Path) -> Path:
    """Chinese-CLIP: BERT's tokenizer with token types."""
    from transformers import (
        ChineseCLIPConfig,
        ChineseCLIPImageProcessorPil,
        ChineseCLIPModel,
        ChineseCLIPProcessor,
    )

    tokenizer = bert_tokenizer()
    text = WIDTH | {"vocab_size": len(tokenizer), "max_position_embeddings": 30}
    config = ChineseCLIPConfig(text_config=text, vision_config=WIDTH | EDGE, projection_dim=16)
    pictures = ChineseCLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return _save(
        folder, randomize(ChineseCLIPModel(config)), ChineseCLIPProcessor(pictures, tokenizer)
    )


def siglip(folder: Path) -> Path:
    """SigLIP: texts padded to full length, because its text tower reads the last position; images
    squashed."""
    from transformers import (
        SiglipConfig,
        SiglipImageProcessorPil,
        SiglipModel,
        SiglipProcessor,
        SiglipTokenizer,
    )

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = SiglipTokenizer(
        str(sentence_pieces(folder)), model_max_length=16, model_input_names=["input_ids"]
    )
    text = WIDTH | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "projection_size": 32,
    }
    config = SiglipConfig(text_config=text, vision_config=WIDTH | EDGE)
    pictures = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return _save(folder, randomize(SiglipModel(config)), SiglipProcessor(pictures, tokenizer))


def siglip2(folder: Path) -> Path:
    """SigLIP 2 with images of any aspect ratio, in at most 256 patches (fixed by its processor)."""
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessorPil,
        Siglip2Model,
        Siglip2Processor,
        Siglip2Tokenizer,
    )

    letters = sorted({letter for text in _corpus() for letter in text.lower().replace(" ", "▁")})
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters]
    tokenizer = Siglip2Tokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], padding_side="right"
    )
    text = WIDTH | {"vocab_size": len(words), "max_position_embeddings": 64, "projection_size": 32}
    config = Siglip2Config(
        text_config=text, vision_config=WIDTH | {"patch_size": 16, "num_patches": 256}
    )
    pictures = Siglip2ImageProcessorPil()
    return _save(folder, randomize(Siglip2Model(config)), Siglip2Processor(pictures, tokenizer))


DUAL = {"clip": clip, "siglip": siglip, "siglip2": siglip2, "chinese_clip": chinese_clip}


def vit(folder: Path) -> Path:
    """ViT as published: with a classifier, without the weights of its pooler."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    model = ViTForImageClassification(ViTConfig(**WIDTH, **EDGE))
    return _save(folder, randomize(model), ViTImageProcessorPil(size={"height": 32, "width": 32}))


def dinov2(folder: Path) -> Path:
    """DINOv2, which pools by its class token."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    pictures = BitImageProcessorPil(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    )
    return _save(
        folder, randomize(Dinov2Model(Dinov2Config(**WIDTH, **EDGE, mlp_ratio=2))), pictures
    )


def convnext(folder: Path) -> Path:
    """ConvNeXt: a grid instead of tokens; its processor resizes, then crops."""
    from transformers import ConvNextConfig, ConvNextImageProcessorPil, ConvNextModel

    model = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]))
    return _save(
        folder,
        randomize(model),
        ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875),
    )


def bert(folder: Path) -> Path:
    """BERT as published: with the masked language model head, without a pooler."""
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = bert_tokenizer()
    config = BertConfig(**WIDTH, vocab_size=len(tokenizer), max_position_embeddings=40)
    return _save(folder, randomize(BertForMaskedLM(config)), tokenizer)


def roberta(folder: Path) -> Path:
    """RoBERTa, whose positions start behind the padding index: 30 of them hold 28 tokens."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    tokenizer = RobertaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    config = RobertaConfig(**WIDTH, vocab_size=len(words), max_position_embeddings=30)
    return _save(folder, randomize(RobertaModel(config)), tokenizer)


def modernbert(folder: Path) -> Path:
    """ModernBERT: rotary positions, so the tokenizer's limit counts."""
    from transformers import ModernBertConfig, ModernBertModel

    tokenizer = bert_tokenizer(model_max_length=60)
    ends = {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    config = ModernBertConfig(
        **WIDTH, vocab_size=len(tokenizer), max_position_embeddings=512, **ends
    )
    return _save(folder, randomize(ModernBertModel(config)), tokenizer)


IMAGE = {"vit": vit, "dinov2": dinov2, "convnext": convnext}
TEXT = {"bert": bert, "roberta": roberta, "modernbert": modernbert}


def sentence(folder: Path) -> Path:
    """A sentence-transformers model: CLIP with an additional layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer

    inner = Transformer(str(clip(folder.parent / "clip of a sentence model")))
    inner.max_seq_length = 24
    SentenceTransformer(modules=[inner, randomize(Dense(16, 12)), Normalize()]).save(
        str(folder), create_model_card=False
    )
    return folder
