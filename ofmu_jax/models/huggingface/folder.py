"""Hugging Face folders in and out: configuration, safetensors, tokenizer.

Only safetensors are read: a pickle can run code, safetensors cannot.
"""

import copy
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import transformers

from ofmu_jax.models.huggingface import tokens, weights
from ofmu_jax.models.huggingface.config import SUPPORTED as SUPPORTED
from ofmu_jax.models.huggingface.config import config_from_hf as config_from_hf
from ofmu_jax.models.huggingface.config import config_to_hf as config_to_hf
from ofmu_jax.models.huggingface.tokens import first_difference as first_difference
from ofmu_jax.models.huggingface.weights import ModelError as ModelError
from ofmu_jax.models.llama.model import LlamaConfig, Params
from ofmu_jax.models.tensor_files import new_folder

_TOKENIZER_FILES = ("*.json", "tokenizer*", "*.model", "*.jinja", "vocab*", "merges*")
_OTHER_FORMATS = ("*/*", "consolidated*")  # the same weights once more
FILES = ("*.safetensors", *_TOKENIZER_FILES)


def load_config(path_or_name: str | pathlib.Path) -> Any:
    """The transformers config of a folder or hub name; runs no remote code."""
    folder = locate(path_or_name, ("config.json",))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{path_or_name} has no config.json; is it a model folder?")
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False
        )
        code = getattr(config, "auto_map", None)
        if code:
            raise ValueError(
                f"it asks for code of its own ({code}), which is never run; if the "
                "model needs none, remove auto_map."
            )
        return config
    except Exception as error:  # whatever a malformed value leads to in there
        raise ModelError(
            f"config.json of {path_or_name} cannot be used; supported model types are "
            f"{SUPPORTED}: {error}"
        ) from error


def load_pretrained(
    path_or_name: str | pathlib.Path, dtype: Any = None
) -> tuple[LlamaConfig, Params]:
    """Architecture and parameters of a Hugging Face model.

    Args:
      path_or_name: a local folder, or a name on the hub.
      dtype: of the parameters; None keeps that of the files.

    Raises:
      ModelError: no such model, no safetensors, a missing, unknown or misshapen
        tensor, or an architecture that is not supported.
    """
    folder = locate(path_or_name)
    config = config_from_hf(load_config(folder))
    return config, weights.read_params(folder, config, dtype)


def save_pretrained(
    folder: str | pathlib.Path,
    params: Params,
    config: LlamaConfig,
    tokenizer: Any = None,
    hf_config: Any = None,
    *,
    dtype: Any = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes a folder that transformers loads; it appears whole or not at all.

    Args:
      folder: must not exist yet.
      params: as `load_pretrained` gives them.
      config: their architecture.
      tokenizer: written beside them, if given.
      hf_config: written as config.json; default: made from ``config``.
      dtype: of the tensors written; None keeps that of the parameters.
      max_shard_bytes: larger models are cut into several files with an index.

    Raises:
      FileExistsError: if the folder exists.
      ModelError: if ``params`` or ``hf_config`` are not those of ``config``.
    """
    if hf_config is None:
        hf_config = config_to_hf(config, tokenizer)
    elif config_from_hf(hf_config, dtype=config.dtype, remat=config.remat) != config:
        raise ModelError(
            f"the given hf_config describes another model than {config}; leave it out "
            "or give the one that the model was loaded with."
        )
    hf_config = copy.deepcopy(hf_config)
    written = jax.tree.leaves(params)[0].dtype if dtype is None else dtype
    hf_config.dtype = np.dtype(written).name
    with new_folder(pathlib.Path(folder)) as partial:
        _write_text_files(partial, hf_config, tokenizer)
        weights.write_params(
            partial, params, config, dtype=dtype, max_shard_bytes=max_shard_bytes
        )


def _write_text_files(folder: pathlib.Path, hf_config: Any, tokenizer: Any) -> None:
    hf_config.save_pretrained(folder)
    transformers.GenerationConfig(
        bos_token_id=hf_config.bos_token_id,
        eos_token_id=_end_ids(hf_config, tokenizer),
        pad_token_id=hf_config.pad_token_id,
        do_sample=False,
    ).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def load_tokenizer(path_or_name: str | pathlib.Path, texts: Sequence[str] = ()) -> Any:
    """The fast tokenizer of a folder or hub name; runs no remote code.

    Its ids are those of the folder's tokenizer.json, whatever class the configs name:
    compared on ``texts`` and on probes.

    Raises:
      ModelError: if the folder has no tokenizer, or one that cannot be read.
    """
    folder = locate(path_or_name, _TOKENIZER_FILES)
    if not tokens.has_tokenizer(folder):
        raise ModelError(
            f"{path_or_name} has no tokenizer (none of {', '.join(tokens.FILES)}); "
            "copy the tokenizer files of the base model into it."
        )
    try:
        return tokens.checked_tokenizer(folder, texts)
    except ModelError:
        raise
    except Exception as error:  # whatever a malformed file leads to in there
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the tokenizer of {path_or_name} cannot be read ({reason}); copy its "
            "files again."
        ) from error


def has_tokenizer(path_or_name: str | pathlib.Path) -> bool:
    """Whether a folder or hub name has a tokenizer of its own."""
    return tokens.has_tokenizer(locate(path_or_name, _TOKENIZER_FILES))


def load_stop_ids(path_or_name: str | pathlib.Path) -> tuple[int, ...]:
    """Ids that end a text by the folder's generation config, else by its config.

    Raises:
      ModelError: if there is no such folder, or they are no ids.
    """
    return tokens.declared_stops(locate(path_or_name))


def locate(
    path_or_name: str | pathlib.Path, patterns: Sequence[str] = FILES
) -> pathlib.Path:
    """The local folder of a model; else the hub's files of these name patterns.

    Raises:
      ModelError: if there is neither.
    """
    path = pathlib.Path(path_or_name)
    if path.is_dir():
        return path
    name = str(path_or_name)
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no model folder {name}.")
    import huggingface_hub
    from huggingface_hub import errors

    try:
        found = huggingface_hub.snapshot_download(
            name, allow_patterns=list(patterns), ignore_patterns=list(_OTHER_FORMATS)
        )
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise ModelError(
            f"{name!r} is neither a local folder nor a model that could be fetched "
            f"from the hub: {error}"
        ) from error
    return pathlib.Path(found)


def _end_ids(hf_config: Any, tokenizer: Any) -> int | list[int] | None:
    """Every end-of-sequence id: chat models list several in their config."""
    found = hf_config.eos_token_id
    ids = list(found) if isinstance(found, list | tuple) else [found]
    ids.append(getattr(tokenizer, "eos_token_id", None))
    ids = list(dict.fromkeys(i for i in ids if i is not None))
    return ids[0] if len(ids) == 1 else ids or None
