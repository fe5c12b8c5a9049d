"""Config, tokenizer and generation settings that are written anew, for every reader.

transformers 5 writes what transformers 4 misreads in silence (``rope_parameters``
alone: rotary base 10000 and no scaling) or cannot load (``TokenizersBackend``). What is
written here has the entries of both.
"""

import json
import pathlib
from typing import Any

import transformers

_BOTH = "PreTrainedTokenizerFast"  # the name that versions 4 and 5 have for it
ONLY_5 = ("TokenizersBackend", "PythonBackend")


def write_texts(folder: pathlib.Path, hf_config: Any, tokenizer: Any) -> None:
    """Writes config.json, generation_config.json and, if given, a tokenizer's files."""
    hf_config.save_pretrained(folder)
    _change(folder / "config.json", for_both)
    transformers.GenerationConfig(
        bos_token_id=hf_config.bos_token_id,
        eos_token_id=_end_ids(hf_config, tokenizer),
        pad_token_id=hf_config.pad_token_id,
        do_sample=False,
    ).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
        _change(folder / "tokenizer_config.json", _tokenizer_for_both)


def change_dtype(folder: pathlib.Path, dtype: str) -> None:
    """Puts the dtype of the weights into a config.json, which stays as it is else."""
    both = ("torch_dtype", "dtype")
    _change(folder / "config.json", lambda found: found | dict.fromkeys(both, dtype))


def for_both(content: dict[str, Any]) -> dict[str, Any]:
    """A config.json of transformers 5 with the entries of transformers 4 as well.

    >>> rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
    >>> found = for_both({"rope_parameters": rope, "dtype": "bfloat16"})
    >>> found["rope_theta"], found["rope_scaling"], found["torch_dtype"]
    (500000.0, {'rope_type': 'llama3', 'factor': 8.0}, 'bfloat16')
    """
    found = dict(content)
    if "dtype" in found:
        found["torch_dtype"] = found["dtype"]
    rope = dict(found.get("rope_parameters") or {})
    if rope:
        found["rope_theta"] = rope.pop("rope_theta", 10000.0)
        plain = rope.get("rope_type", "default") == "default"
        found["rope_scaling"] = None if plain else rope
    return found


def _tokenizer_for_both(content: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer_config.json of transformers 5 that transformers 4 reads alike.

    >>> made = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<x>"]}
    >>> _tokenizer_for_both(made)["tokenizer_class"]
    'PreTrainedTokenizerFast'
    >>> _tokenizer_for_both(made)["additional_special_tokens"]
    ['<x>']
    """
    found = dict(content)
    if found.get("tokenizer_class") in ONLY_5:
        found["tokenizer_class"] = _BOTH
    if isinstance(found.get("extra_special_tokens"), list):  # 4 takes an object there
        found["additional_special_tokens"] = found.pop("extra_special_tokens")
    return found


def _change(path: pathlib.Path, change: Any) -> None:
    content = change(json.loads(path.read_text(encoding="utf-8")))
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _end_ids(hf_config: Any, tokenizer: Any) -> int | list[int] | None:
    """Every end-of-sequence id: chat models list several in their config."""
    found = hf_config.eos_token_id
    ids = list(found) if isinstance(found, list | tuple) else [found]
    ids.append(getattr(tokenizer, "eos_token_id", None))
    ids = list(dict.fromkeys(i for i in ids if i is not None))
    return ids[0] if len(ids) == 1 else ids or None
