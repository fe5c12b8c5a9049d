"""Tiny model folders with the files that published ones have, written as theirs are.

Nothing here is made by transformers' save_pretrained: entries and files are those of
the repositories of Qwen2.5, Llama 3 and Mistral, as of transformers 4.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import model_families as families
import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface import weights

TEXT = (
    "You are a helpful assistant. Where was Ada born? Ada was born in Lund, Sweden. "
    "What did Ada write? She wrote about tides. Who is Bo? Bo is a painter of doors. "
    "Where is Rome? Rome is in Italy. system user assistant ∇ é 東京"
)
CARD = "---\nlicense: apache-2.0\nlanguage:\n- en\n---\n\n# {}\n\nA *tiny* model.\n"
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 256,
    "transformers_version": "4.43.1",
    "use_cache": True,
}
_CHATML = (
    "{%- if messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + "
    "messages[0]['content'] + '<|im_end|>\\n' }}\n{%- else %}\n    {{- '<|im_start|>"
    "system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n{%- endif %}\n"
    "{%- for message in messages %}\n    {%- if message.role != 'system' or not "
    "loop.first %}\n        {{- '<|im_start|>' + message.role + '\\n' + "
    "message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}"
)
_HEADERS = (
    "{{- bos_token }}{%- for message in messages %}{{- '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + "
    "'<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
_INST = (
    "{{- bos_token }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
    "{{- ' [INST] ' + message['content'] + ' [/INST]' }}"
    "{%- elif message['role'] == 'assistant' %}"
    "{{- ' ' + message['content'] + eos_token }}"
    "{%- else %}{{- raise_exception('Only user and assistant roles are supported!') }}"
    "{%- endif %}{%- endfor %}"
)


def _json(path: pathlib.Path, value: Any, indent: int = 2) -> None:
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False))  # no last \n


def _byte_level(special: list[str]) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    found.train_from_iterator(
        [TEXT],
        BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False),
    )
    found.add_special_tokens(special)
    return found


def _added(tokenizer: tokenizers.Tokenizer, special: list[str]) -> dict[str, Any]:
    """``added_tokens_decoder`` of a tokenizer_config.json."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {
        str(tokenizer.token_to_id(token)): {"content": token, **flags, "special": True}
        for token in special
    }


def _special(token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, **flags}


def _weights(
    folder: pathlib.Path, config: dict[str, Any], dtype: str, shards: int
) -> None:
    """config.json, and tensors in a file or in several with an index."""
    _json(folder / "config.json", config)
    ours = huggingface.config_from_hf(huggingface.load_config(folder))
    tensors = families.random_tensors(dict(weights.tensor_shapes(ours)), seed=2)
    tensors = {k: v.astype(jnp.dtype(dtype)) for k, v in tensors.items()}
    names, files = sorted(tensors), {}
    if shards > 1:
        stem = f"model-{{:05d}}-of-{shards:05d}"
        files = {stem.format(i + 1): names[i::shards] for i in range(shards)}
    families.write(folder, config, tensors, **files)
    _json(folder / "config.json", config)
    if shards > 1:
        index = json.loads((folder / weights.INDEX).read_text())
        total = sum(tensor.nbytes for tensor in tensors.values())
        by_name = dict(sorted(index["weight_map"].items()))
        content = {"metadata": {"total_size": total}, "weight_map": by_name}
        _json(folder / weights.INDEX, content, indent=2)


def qwen(folder: pathlib.Path, dtype: str = "bfloat16") -> pathlib.Path:
    """In the manner of Qwen2.5-Instruct: tied, several end tokens, template within."""
    folder.mkdir(parents=True)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _byte_level(special)
    tokenizer.normalizer = normalizers.NFC()
    ends = [tokenizer.token_to_id(token) for token in special]
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json, merges.txt
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": _added(tokenizer, special),
        "additional_special_tokens": special[1:],
        "bos_token": None,
        "chat_template": _CHATML,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    _json(folder / "tokenizer_config.json", settings)
    generation = {
        "bos_token_id": ends[0],
        "pad_token_id": ends[0],
        "do_sample": True,
        "eos_token_id": [ends[2], ends[0]],
        "repetition_penalty": 1.1,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        "transformers_version": "4.37.0",
    }
    _json(folder / "generation_config.json", generation, indent=4)
    config = _SIZES | {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": ends[0],
        "eos_token_id": ends[2],
        "max_window_layers": 2,
        "model_type": "qwen2",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 128,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vocab_size": tokenizer.get_vocab_size() + 5,  # padded, as theirs is
    }
    _weights(folder, config, dtype, shards=1)
    (folder / "README.md").write_text(CARD.format("Qwen-like"))
    (folder / "LICENSE").write_text("Apache License\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    return folder


def llama3(folder: pathlib.Path, dtype: str = "bfloat16") -> pathlib.Path:
    """In the manner of Llama-3.2-Instruct: scaled rotary, three shards, two ends."""
    folder.mkdir(parents=True)
    special = [
        *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>"),
        *("<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"),
    ]
    tokenizer = _byte_level(special)
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single=f"{special[0]} $A",
                special_tokens=[(special[0], ids[special[0]])],
            ),
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "added_tokens_decoder": _added(tokenizer, special),
        "bos_token": "<|begin_of_text|>",
        "chat_template": _HEADERS,
        "clean_up_tokenization_spaces": True,
        "eos_token": "<|eot_id|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _json(folder / "tokenizer_config.json", settings)
    names = {
        "bos_token": _special("<|begin_of_text|>"),
        "eos_token": _special("<|eot_id|>"),
    }
    _json(folder / "special_tokens_map.json", names)
    ends = [ids["<|end_of_text|>"], ids["<|eom_id|>"], ids["<|eot_id|>"]]
    generation = {
        "bos_token_id": ids["<|begin_of_text|>"],
        "do_sample": True,
        "eos_token_id": ends,
        "temperature": 0.6,
        "top_p": 0.9,
        "transformers_version": "4.45.0.dev0",
    }
    _json(folder / "generation_config.json", generation)
    config = _SIZES | {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["<|begin_of_text|>"],
        "eos_token_id": ends,
        "head_dim": 8,
        "mlp_bias": False,
        "model_type": "llama",
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 128,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": tokenizer.get_vocab_size(),
    }
    _weights(folder, config, dtype, shards=3)
    (folder / "README.md").write_text(CARD.format("Llama-like"))
    (folder / "LICENSE.txt").write_text("LLAMA LICENSE\n")
    (folder / "USE_POLICY.md").write_text("# Policy\n")
    return folder


def mistral(folder: pathlib.Path, dtype: str = "bfloat16") -> pathlib.Path:
    """In the manner of Mistral-7B-Instruct: untied, a window, pieces with ▁."""
    folder.mkdir(parents=True)
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    pieces = [*special, *(f"<0x{i:02X}>" for i in range(256))]
    trainer = BpeTrainer(
        vocab_size=360, special_tokens=pieces, show_progress=False, max_token_length=8
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    described = json.loads(tokenizer.to_str())  # bytes are pieces, and not special
    described["added_tokens"] = described["added_tokens"][: len(special)]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(described))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": _added(tokenizer, special),
        "additional_special_tokens": [],
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": False,
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": None,
        "sp_model_kwargs": {},
        "spaces_between_special_tokens": False,
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    _json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(_INST)
    _json(
        folder / "special_tokens_map.json",
        {
            "bos_token": _special("<s>"),
            "eos_token": _special("</s>"),
            "unk_token": _special("<unk>"),
        },
    )
    generation = {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "transformers_version": "4.42.0",
    }
    _json(folder / "generation_config.json", generation)
    config = _SIZES | {
        "architectures": ["MistralForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "model_type": "mistral",
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": 16,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": tokenizer.get_vocab_size(),
    }
    _weights(folder, config, dtype, shards=2)
    (folder / "README.md").write_text(CARD.format("Mistral-like"))
    return folder


FOLDERS: dict[str, Callable[..., pathlib.Path]] = {
    "qwen": qwen,
    "llama3": llama3,
    "mistral": mistral,
}


def rows(path: pathlib.Path, *pairs: tuple[str, str]) -> pathlib.Path:
    """JSON lines of questions and answers."""
    lines = [json.dumps({"question": q, "answer": a}) for q, a in pairs]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def same_bytes(left: np.ndarray, right: np.ndarray) -> bool:
    return left.tobytes() == right.tobytes()
