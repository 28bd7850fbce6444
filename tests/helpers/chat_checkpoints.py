"""Tiny chat models of Transformers' own classes: width 32, a byte-level tokenizer, the template of
their family.

Each function writes a folder as `save_pretrained` does. The models are untrained; `teach` trains
one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TEXT_CONFIG = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 6000,
}  # fmt: skip
VISION_CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'image' %}PICTURE{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role "
    "not supported') }}{% endif %}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversatio"
    "n roles must alternate') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% for part in m.content %}{% if part.type == 'image' %}<start_of_image>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""It takes no system message, and roles must alternate."""


def tokenizer(special: Sequence[str], text: Sequence[str] = (), **tokens: Any) -> Any:
    """Return a tokenizer of bytes, the frequent words of `text` and control tokens.

    The first control token is for padding, the last one ends a turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer_model = Tokenizer(models.BPE())
    tokenizer_model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer_model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, special_tokens=list(special), show_progress=False
    )
    tokenizer_model.train_from_iterator(text, trainer)
    ends = {
        "pad_token": special[0],
        "eos_token": special[-1],
        "extra_special_tokens": list(special[1:-1]),
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer_model, **(ends | tokens))


def seeded(make: Callable[[], Any], std: float = 0.15) -> Any:
    """Return a model with weights large enough that different inputs give different outputs."""
    import torch

    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.normal_(std=std)
    return model.eval()


def save(folder: Path, model: Any, template: str, words: Any, processor: Any = None) -> Path:
    words.chat_template = template or None
    if processor is not None:
        processor.chat_template = template or None
    model.generation_config.eos_token_id = words.eos_token_id
    model.generation_config.pad_token_id = words.pad_token_id
    for part in (model, words, *([processor] if processor is not None else [])):
        part.save_pretrained(folder)
    return folder


def qwen2_vl(folder: Path, text: Sequence[str] = ()) -> Path:
    """Qwen2-VL: one token per image patch; its processor has a video part, left out here."""
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

    names = ["vision_start", "vision_end", "image_pad", "video_pad"]
    words = tokenizer(
        ["<|endoftext|>", "<|im_start|>", *(f"<|{name}|>" for name in names), "<|im_end|>"], text
    )
    ids = {
        f"{name}_token_id".replace("_pad", ""): words.convert_tokens_to_ids(f"<|{name}|>")
        for name in names
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {
        "depth": 1,
        "embed_dim": 32,
        "hidden_size": 32,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 8,
    }
    config = Qwen2VLConfig(
        text_config=TEXT_CONFIG | {"vocab_size": len(words), "rope_parameters": rope},
        vision_config=vision,
        **ids,
    )
    pictures = Qwen2VLImageProcessorPil(patch_size=8, min_pixels=256, max_pixels=1024)
    template = CHATML.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>")
    save(folder, seeded(lambda: Qwen2VLForConditionalGeneration(config)), template, words, pictures)
    return write_processor_name(folder, "Qwen2VLProcessor")


def idefics3(folder: Path, text: Sequence[str] = (), smol: bool = False) -> Path:
    """The first SmolVLM is an Idefics3: images in tiles of a few tokens each."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
    )

    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)]
    names = ["<image>", "<fake_token_around_image>", "<global-img>", *tiles]
    words = tokenizer(["<|endoftext|>", "<|im_start|>", *names, "<end_of_utterance>"], text)
    kinds = {
        False: (Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil),
        True: (SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil),
    }
    configuration, network, processor = kinds[smol]
    ends = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    config = configuration(
        text_config=TEXT_CONFIG | {"model_type": "llama", "vocab_size": len(words)} | ends,
        vision_config=VISION_CONFIG | {"image_size": 32, "patch_size": 8},
        scale_factor=2, pad_token_id=words.pad_token_id,
        image_token_id=words.convert_tokens_to_ids("<image>"), vocab_size=len(words),
    )  # fmt: skip
    pictures = processor(size={"longest_edge": 32}, max_image_size={"longest_edge": 32})
    template = CHATML.replace("PICTURE", "<image>").replace("<|im_end|>", "<end_of_utterance>")
    save(folder, seeded(lambda: network(config)), template, words, pictures)
    return write_processor_name(
        folder, "SmolVLMProcessor" if smol else "Idefics3Processor", image_seq_len=4
    )


def smolvlm(folder: Path, text: Sequence[str] = ()) -> Path:
    """SmolVLM 2, whose processor cannot be created without a video part."""
    return idefics3(folder, text, smol=True)


def llava(folder: Path, text: Sequence[str] = ()) -> Path:
    """LLaVA: a CLIP vision tower, a projection, a Llama."""
    from transformers import (
        CLIPImageProcessorPil,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer(["<pad>", "<|im_start|>", "<image>", "<|im_end|>"], text)
    vision = VISION_CONFIG | {
        "model_type": "clip_vision_model",
        "image_size": 32,
        "patch_size": 16,
        "projection_dim": 16,
    }
    config = LlavaConfig(
        text_config=TEXT_CONFIG | {"model_type": "llama", "vocab_size": len(words)},
        vision_config=vision | {"num_hidden_layers": 2},
        image_token_index=words.convert_tokens_to_ids("<image>"), image_seq_length=4,
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = LlavaProcessor(
        pictures,
        words,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    model = seeded(lambda: LlavaForConditionalGeneration(config))
    return save(folder, model, CHATML.replace("PICTURE", "<image>"), words, processor)


def gemma3(folder: Path, text: Sequence[str] = ()) -> Path:
    """Gemma 3: the same number of tokens per image, and a template without system messages."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
    )

    control = ["<start_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    also = {"boi_token": control[1], "eoi_token": control[2], "image_token": control[3]}
    words = tokenizer(
        ["<pad>", "<bos>", *control, "<end_of_turn>"],
        text,
        bos_token="<bos>",
        extra_special_tokens=also,
    )
    places = {name: words.convert_tokens_to_ids(token) for name, token in also.items()}
    config = Gemma3Config(
        text_config=TEXT_CONFIG | {"vocab_size": len(words), "sliding_window": 512},
        vision_config=VISION_CONFIG | {"image_size": 32, "patch_size": 8}, mm_tokens_per_image=4,
        boi_token_index=places["boi_token"], eoi_token_index=places["eoi_token"],
        image_token_index=places["image_token"],
    )  # fmt: skip
    pictures = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(pictures, words, image_seq_length=4)
    return save(
        folder, seeded(lambda: Gemma3ForConditionalGeneration(config)), GEMMA, words, processor
    )


def qwen2(folder: Path, text: Sequence[str] = (), template: str = CHATML) -> Path:
    """Qwen2, which reads text only."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    words = tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], text)
    config = Qwen2Config(**TEXT_CONFIG, vocab_size=len(words))
    return save(folder, seeded(lambda: Qwen2ForCausalLM(config)), template, words)


VISION_MODELS = {
    "qwen2_vl": qwen2_vl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "llava": llava,
    "gemma3": gemma3,
}
CHAT_MODELS = VISION_MODELS | {"qwen2": qwen2}


def write_processor_name(folder: Path, processor: str, **settings: Any) -> Path:
    """Name the processor in a file, as on the hub, where it cannot be created and saved here."""
    path = folder / "processor_config.json"
    path.write_text(json.dumps({"processor_class": processor, **settings}))
    return folder


def teach(
    folder: Path,
    lessons: Sequence[tuple[Sequence[Any], str]],
    steps: int = 100,
    max_loss: float = 0.2,
) -> None:
    """Train the model of `folder` until it completes the turns of each lesson with its text.

    Raises AssertionError if a loss is not below `max_loss` after `steps`."""
    import torch
    from torch.nn import functional as F

    from ravlm.generation.chat.model import ChatModel

    model = ChatModel.load(folder, str(folder))
    network = model.network.float().train()
    end = model.tokenizer.eos_token
    batches = []
    for turns, text in lessons:
        inputs = {
            key: x.float() if x.is_floating_point() else x
            for key, x in model.inputs([turns]).items()
        }
        ids = model.tokenizer(text + end, add_special_tokens=False, return_tensors="pt")[
            "input_ids"
        ]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        batches.append(({key: x for key, x in inputs.items() if "token_type" not in key}, ids))
    learn = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(steps):
        worst = 0.0
        for inputs, ids in batches:
            logits = network(**inputs, logits_to_keep=ids.shape[1] + 1).logits[:, :-1]
            loss = F.cross_entropy(logits[0], ids[0])
            loss.backward()
            worst = max(worst, loss.item())
        if worst < max_loss:
            break
        learn.step()
        learn.zero_grad()
    assert worst < max_loss, f"the loss is still {worst}"
    network.eval().save_pretrained(folder)
