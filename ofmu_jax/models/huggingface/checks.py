"""What a config.json may say, looked at before anything of that size is made."""

import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ofmu_jax.models.other_formats import pointer
from ofmu_jax.models.tensor_files import ModelError, TensorInfo

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
ROTARY = ("default", "llama3")  # kinds of rotary frequencies
_MAX_BYTES = 2**24  # of a JSON file that is read whole
_LAYER = re.compile(r"model\.layers\.(\d{1,9})\.")


class _Rule(NamedTuple):
    """What the value of an entry must be."""

    words: str
    holds: Callable[[Any], bool]
    optional: bool = False  # null stands for what transformers takes then


def _whole(most: int, least: int = 1, optional: bool = False) -> _Rule:
    holds = lambda x: type(x) is int and least <= x <= most
    return _Rule(f"a whole number from {least} to {most}", holds, optional)


def _number(most: float, optional: bool = False) -> _Rule:
    holds = lambda x: type(x) in (int, float) and 0 < x <= most  # NaN is not
    return _Rule(f"a number above 0 and up to {most:g}", holds, optional)


_FLAG = _Rule("true or false", lambda x: type(x) is bool)
_OBJECT = _Rule("an object", lambda x: type(x) is dict, optional=True)
_TOKENS = _Rule(
    "a token id or a list of some",
    lambda x: all(type(i) is int for i in (x if type(x) is list else [x])),
    optional=True,
)
# Far beyond every model that exists, and small enough that a list of so many layers
# or a table of so many positions can still be made.
_RULES: Mapping[str, _Rule] = {
    "vocab_size": _whole(2**24),
    "hidden_size": _whole(2**20),
    "intermediate_size": _whole(2**24),
    "num_hidden_layers": _whole(10**4),
    "num_attention_heads": _whole(2**16),
    "num_key_value_heads": _whole(2**16, optional=True),
    "head_dim": _whole(2**16, optional=True),
    "max_position_embeddings": _whole(2**30),
    "sliding_window": _whole(2**30, optional=True),
    "max_window_layers": _whole(10**9, least=0, optional=True),
    "rms_norm_eps": _number(1),
    "rope_theta": _number(1e30, optional=True),
    "initializer_range": _Rule(
        "a number from 0 to 1000", lambda x: type(x) in (int, float) and 0 <= x <= 1e3
    ),
    "rope_scaling": _OBJECT,
    "rope_parameters": _OBJECT,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _TOKENS),
    **dict.fromkeys(("tie_word_embeddings", "use_sliding_window"), _FLAG),
    **dict.fromkeys(("attention_bias", "mlp_bias"), _FLAG),
}
_ROPE_RULES: Mapping[str, _Rule] = {
    "rope_theta": _number(1e30, optional=True),
    "factor": _number(1e6, optional=True),
    "low_freq_factor": _number(1e6, optional=True),
    "high_freq_factor": _number(1e6, optional=True),
    "original_max_position_embeddings": _whole(2**30, optional=True),
    "partial_rotary_factor": _number(1, optional=True),
}


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ModelError: absent, too large, not JSON, or something else than an object.
    """
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise ModelError(f"it has {size:,} bytes; at most {_MAX_BYTES:,} are read")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        reason = f"is not JSON ({error}); copy it again"
        raise ModelError(f"it {pointer(path) or reason}") from error
    if not isinstance(found, dict):
        raise ModelError(f"it holds a {type(found).__name__}, not an object")
    return found


def check_entries(content: Mapping[str, Any]) -> None:
    """Refuses a model type that is not supported, and values that no model has.

    An entry that is absent is not looked at: transformers has a default for it.

    Raises:
      ModelError: naming the entry, its value, and what it must be.
    """
    kind = content.get("model_type")
    if kind not in SUPPORTED:
        raise ModelError(
            f"model type {shown(kind)} is not supported; supported are {SUPPORTED}."
        )
    for name, value, rule in _entries(content):
        if not (rule.optional and value is None) and not rule.holds(value):
            raise ModelError(f"{name} is {shown(value)}; it must be {rule.words}.")
    _check_together(content)
    for group in ("rope_scaling", "rope_parameters"):
        _check_rotary(group, content.get(group) or {})
    for name in ("quantization_config", "compression_config"):
        if content.get(name) is not None:
            raise ModelError(
                f"{name} is {shown(content[name])}: quantised models are not "
                "supported; give the unquantised one."
            )


def _check_rotary(group: str, found: Mapping[str, Any]) -> None:
    """Refuses frequencies that are not supported, or of which the kind is not said."""
    kinds = [found[name] for name in ("rope_type", "type") if found.get(name)]
    if nested := [name for name, value in found.items() if type(value) is dict]:
        raise ModelError(
            f"{group} has entries for kinds of layers ({shown(nested)}), which are "
            "not supported; give a model with the same ones in all layers."
        )
    if kinds[1:] and kinds[0] != kinds[1]:
        raise ModelError(
            f"{group} has rope_type {shown(kinds[0])} and type {shown(kinds[1])}; "
            "leave the one that the model was trained with."
        )
    if kinds and kinds[0] not in ROTARY:
        raise ModelError(
            f"rotary scaling {shown(kinds[0])} is not supported, only "
            f"{' and '.join(map(repr, ROTARY))}."
        )
    if not kinds and found.get("factor") not in (None, 1.0):
        raise ModelError(
            f"{group} has the factor {found['factor']} and no rope_type, so that the "
            "scaling cannot be told; add the rope_type that the model was trained with."
        )


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, Any, _Rule]]:
    """(name, value, rule) of all entries that have a rule."""
    for name, rule in _RULES.items():
        if name in content:
            yield name, content[name], rule
    for group in ("rope_scaling", "rope_parameters"):
        found = content.get(group) or {}
        for name, rule in _ROPE_RULES.items():
            if name in found:
                yield f"{group}.{name}", found[name], rule


def _check_together(content: Mapping[str, Any]) -> None:
    """Sizes that must divide each other, and frequencies that must differ."""
    heads, shared = (
        content.get(name) for name in ("num_attention_heads", "num_key_value_heads")
    )
    if heads and shared and heads % shared:
        raise ModelError(
            f"num_attention_heads is {heads}, which is not a multiple of "
            f"num_key_value_heads, {shared}."
        )
    size, width = content.get("hidden_size"), content.get("head_dim")
    if heads and size and not width and size % (2 * heads):
        raise ModelError(
            f"hidden_size is {size}, which num_attention_heads, {heads}, do not divide "
            "into heads of an even size; it must, or head_dim must be there."
        )
    if width and width % 2:
        raise ModelError(f"head_dim is {width}; it must be even, for rotary pairs.")
    for group in ("rope_scaling", "rope_parameters"):
        low, high = (
            (content.get(group) or {}).get(f"{name}_freq_factor")
            for name in ("low", "high")
        )
        if low is not None and high is not None and low >= high:
            raise ModelError(
                f"{group}.low_freq_factor is {low}; it must be below "
                f"high_freq_factor, {high}."
            )
    layers, kinds = content.get("num_hidden_layers"), content.get("layer_types")
    if kinds is not None and not (
        type(kinds) is list and all(type(kind) is str for kind in kinds)
    ):
        raise ModelError(f"layer_types is {shown(kinds)}; it must be a list of names.")
    if kinds is not None and layers and len(kinds) != layers:
        raise ModelError(
            f"layer_types has {len(kinds)} entries; num_hidden_layers is {layers}."
        )


def check_sizes(
    said: Mapping[str, int], infos: Mapping[str, TensorInfo], folder: pathlib.Path
) -> None:
    """Refuses sizes of a config.json that the headers of the weights contradict.

    Only headers are read for that, and nothing is made of the sizes.

    Args:
      said: ``vocab_size``, ``hidden_size``, ``intermediate_size``,
        ``num_hidden_layers``, and ``num_attention_heads`` and ``num_key_value_heads``
        with ``head_dim``.
      infos: of the tensors in the folder.
      folder: for the message.
    """
    layers = {int(found[1]) for name in infos if (found := _LAYER.match(name))}
    if layers and said["num_hidden_layers"] > len(infos):
        raise ModelError(
            f"num_hidden_layers in {folder}/config.json is "
            f"{said['num_hidden_layers']}, and its files hold {len(layers)} layers; "
            "give the config.json that belongs to them."
        )
    layer, width = f"model.layers.{min(layers, default=0)}", said["head_dim"]
    rows = {
        "model.embed_tokens.weight": ("vocab_size", 1),
        f"{layer}.mlp.gate_proj.weight": ("intermediate_size", 1),
        f"{layer}.self_attn.q_proj.weight": ("num_attention_heads", width),
        f"{layer}.self_attn.k_proj.weight": ("num_key_value_heads", width),
    }
    for name, (field, times) in rows.items():
        if name not in infos or len(infos[name].shape) != 2:
            continue
        info = infos[name]
        for entry, unit, found in (
            ("hidden_size", 1, info.shape[1]),
            (field, times, info.shape[0]),
        ):
            if said[entry] * unit != found:
                each = f" of head_dim {unit}" if unit > 1 else ""
                raise ModelError(
                    f"{entry} in {folder}/config.json is {said[entry]}{each}, and "
                    f"{name!r} in {info.file} has shape {info.shape}; give the "
                    "config.json that belongs to it."
                )


def shown(value: Any, most: int = 80) -> str:
    """A value as text of bounded length, for a message."""
    if type(value) is int and abs(value) >= 10**most:
        return f"a whole number of more than {most} digits"
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."
