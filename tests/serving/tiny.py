"""Builds a language model and LoRA adapters small enough to run everywhere, from a seed alone."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from indexer.store import CONFIG_FILE

BASE_NAME = "tiny-base"
SENTENCES = "the quick brown fox jumps over a lazy dog while seven wizards make toxic brew for quiet kings"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def build_base(folder: Path, seed: int = 7, tied: bool = False) -> Path:
    """Writes a random two-layer Llama with a byte-level tokenizer and a chat template; returns its folder."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
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
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
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
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_adapter(base: Path, folder: Path, seed: int, rank: int = 4) -> Path:
    """Writes a random adapter with weights large enough to change every answer; returns its folder."""
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    return build_peft(base, folder, config, seed)


def build_peft(base: Path, folder: Path, config: PeftConfig, seed: int = 0) -> Path:
    """As ``build_adapter``, of whatever PEFT makes of a configuration."""
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(str(folder))
    settings = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(settings | {"base_model_name_or_path": BASE_NAME}))
    return folder
