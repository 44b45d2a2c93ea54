"""Builds a language model and LoRA adapters small enough to run everywhere, from a seed alone."""

import hashlib
import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BASE_NAME = "tiny-base"
SENTENCES = "the quick brown fox jumps over a lazy dog while seven wizards make toxic brew for quiet kings"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def build_base(folder: Path) -> Path:
    """Writes a random two-layer Llama with a byte-level tokenizer and a chat template; returns its folder."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"\u0120{word}" for word in SENTENCES.split()]
    specials = ["<s>", "</s>", "<pad>"]
    vocabulary = {token: index for index, token in enumerate(specials + alphabet)}
    merges: list[tuple[str, str]] = []
    for word in words:
        merged = word[0]
        for letter in word[1:]:
            if (merged, letter) not in merges:
                merges.append((merged, letter))
            merged += letter
            vocabulary.setdefault(merged, len(vocabulary))
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_adapter(base: Path, store: Path, seed: int, rank: int = 4) -> str:
    """Adds a random adapter with sizeable weights to a content-addressed store; returns its 64-hex id."""
    model = AutoModelForCausalLM.from_pretrained(base)
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    staged = store / f"staged-{seed}"
    adapted.save_pretrained(staged, safe_serialization=True)
    return _place(staged, store)


def _place(staged: Path, store: Path) -> str:
    settings = json.loads((staged / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = BASE_NAME
    weights = (staged / "adapter_model.safetensors").read_bytes()
    identity = hashlib.sha256(weights).hexdigest()
    folder = store / identity[:2] / identity
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    for file in staged.iterdir():
        file.unlink()
    staged.rmdir()
    return identity
