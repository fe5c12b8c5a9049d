"""Hugging Face folders in and out: configuration, safetensors, tokenizer.

Only safetensors are read: a pickle can run code, safetensors cannot.
"""

import copy
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers
from jax.sharding import Mesh

from ofmu_jax.models.huggingface import copies, fresh, tokens, weights, writing
from ofmu_jax.models.huggingface.checks import check_entries, read_object, shown
from ofmu_jax.models.huggingface.config import SUPPORTED as SUPPORTED
from ofmu_jax.models.huggingface.config import config_from_hf as config_from_hf
from ofmu_jax.models.huggingface.config import config_to_hf as config_to_hf
from ofmu_jax.models.huggingface.tokens import first_difference as first_difference
from ofmu_jax.models.huggingface.weights import ModelError as ModelError
from ofmu_jax.models.llama.model import LlamaConfig, Params
from ofmu_jax.models.tensor_files import Once, alone, new_folder
from ofmu_jax.parallel.distributed import on_main
from ofmu_jax.parallel.gathering import spread

_OTHER_FORMATS = ("*/*", "consolidated*")  # the same weights once more
FILES = ("*.safetensors", *copies.TOKENIZER)  # what a model is read from
KEPT = ("*.safetensors", *copies.KEPT)  # and what comes along
CHANGED = (
    "The weights are not those of the model described here: they were changed by "
    "ofmu_jax."
)


def load_config(path_or_name: str | pathlib.Path) -> Any:
    """The transformers config of a folder or hub name; runs no remote code."""
    folder = locate(path_or_name, ("config.json",))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{path_or_name} has no config.json; is it a model folder?")
    try:
        content = read_object(folder / "config.json")
        if code := content.get("auto_map"):
            raise ModelError(
                f"it asks for code of its own ({shown(code)}), which is never run; if "
                "the model needs none, remove auto_map; supported model types are "
                f"{SUPPORTED}."
            )
        check_entries(content)
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever a malformed value leads to in there
        reason = " ".join(str(error).split())
        raise ModelError(
            f"config.json of {path_or_name} cannot be used: {reason}"
        ) from error


def load_pretrained(
    path_or_name: str | pathlib.Path, dtype: Any = None, mesh: Mesh | None = None
) -> tuple[LlamaConfig, Params]:
    """Architecture and parameters of a Hugging Face model.

    Args:
      path_or_name: a local folder, or a name on the hub.
      dtype: of the parameters; None keeps that of the files.
      mesh: where they lie: each process reads the slices that its devices hold. None:
        on the default device.

    Raises:
      ModelError: no such model, no safetensors, a missing, unknown or misshapen
        tensor, or an architecture that is not supported.
    """
    folder = locate(path_or_name)
    config = _config_of(folder)
    return config, weights.read_params(folder, config, dtype, mesh)


def _config_of(folder: pathlib.Path) -> LlamaConfig:
    """The architecture that a folder's config.json describes."""
    hf_config = load_config(folder)
    try:
        return config_from_hf(hf_config)
    except ModelError as error:
        raise ModelError(f"{folder}/config.json: {error}") from error


def save_pretrained(
    folder: str | pathlib.Path,
    params: Params,
    config: LlamaConfig,
    tokenizer: Any = None,
    hf_config: Any = None,
    *,
    source: str | pathlib.Path | None = None,
    dtype: Any = None,
    max_shard_bytes: int = 5 * 10**9,
    card: str | None = None,
) -> None:
    """Writes a folder that transformers 4 and 5 load; it appears whole or not at all.

    With ``source`` it is that folder with other weights: `copies.files_to_keep` are
    copied byte for byte, tensors have the names, files and dtypes that they have there,
    and README.md says that the weights were changed. Nothing else is written, and
    config.json is changed only where ``dtype`` is given, in its entries of that name.

    Parameters that lie on several processes are written by process 0, a tensor at a
    time; all of them have to call this, with one folder.

    Args:
      folder: must not exist yet.
      params: as `load_pretrained` gives them.
      config: their architecture.
      tokenizer: written beside them, if given; not with ``source``. For Qwen 2 one
        that is no Qwen2Tokenizer: AutoTokenizer of transformers 5 takes that class
        whatever the folder says; PreTrainedTokenizerFast and `load_tokenizer` read it.
      hf_config: written as config.json; default: made from ``config``; not with
        ``source``.
      source: the folder, or hub name, of the model that ``params`` come from.
      dtype: of the tensors written; None keeps that of the files of ``source``, or of
        the parameters.
      max_shard_bytes: larger models are cut into several files with an index; with
        ``source`` they are cut as there.
      card: what README.md says; with ``source`` before what it says there, default:
        that the weights were changed, "": nothing; without: no README.md is written.

    Raises:
      FileExistsError: if the folder exists.
      ModelError: if ``params``, ``hf_config`` or ``source`` are not of ``config``.
      OSError: if there is no room; nothing is left then.
      ValueError: ``source`` together with what it has itself.
    """
    folder = pathlib.Path(folder)
    once = on_main if spread(params) else alone
    if source is not None:
        if tokenizer is not None or hf_config is not None:
            raise ValueError(
                f"source={str(source)!r} has a config and a tokenizer of its own, "
                "which are copied: leave out hf_config and tokenizer, or source."
            )
        given, card = locate(source), CHANGED if card is None else card
        _save_like(given, folder, params, config, dtype, card, once)
        return
    if hf_config is None:
        hf_config = config_to_hf(config, tokenizer)
    else:
        _check_same(hf_config, config, "the given hf_config")
    hf_config = copy.deepcopy(hf_config)
    written = writing.widest(params) if dtype is None else dtype
    hf_config.dtype = np.dtype(written).name

    def write_texts() -> None:
        fresh.write_texts(partial, hf_config, tokenizer)
        if card is not None:
            (partial / copies.CARD).write_text(card, encoding="utf-8")

    with new_folder(folder, once) as partial:
        once(write_texts)
        writing.write_params(
            partial,
            params,
            config,
            dtype=dtype,
            max_shard_bytes=max_shard_bytes,
            once=once,
        )


def left_out(path_or_name: str | pathlib.Path) -> list[str]:
    """Names in a model folder that `save_pretrained` does not take over from it.

    Raises:
      ModelError: a file that the model is read from cannot be copied.
    """
    return copies.left_out(locate(path_or_name))


def read_card(path_or_name: str | pathlib.Path) -> tuple[dict[str, Any], str]:
    """Metadata and text of a model folder's card, README.md; empty: there is none."""
    return copies.read_card(locate(path_or_name))


def _save_like(
    source: pathlib.Path,
    folder: pathlib.Path,
    params: Params,
    config: LlamaConfig,
    dtype: Any,
    changed: str,
    once: Once,
) -> None:
    """The folder ``source`` with other weights."""
    _check_same(load_config(source), config, f"config.json of {source}")

    def write_texts() -> None:
        copies.copy_kept(source, partial)
        if said := copies.card(source, changed):
            (partial / copies.CARD).write_bytes(said)
        if dtype is not None:
            fresh.change_dtype(partial, np.dtype(dtype).name)

    with new_folder(folder, once) as partial:
        once(write_texts)
        writing.write_params_like(
            partial, params, config, source, dtype=dtype, once=once
        )


def _check_same(hf_config: Any, config: LlamaConfig, what: str) -> None:
    if config_from_hf(hf_config, **config.computation) != config:
        raise ModelError(
            f"{what} describes another model than {config}; leave it out or give the "
            "one that the model was loaded with."
        )


def load_tokenizer(path_or_name: str | pathlib.Path, texts: Sequence[str] = ()) -> Any:
    """The fast tokenizer of a folder or hub name; runs no remote code.

    Its ids are those of the folder's tokenizer.json, whatever class the configs name:
    compared on ``texts`` and on probes.

    Raises:
      ModelError: if the folder has no tokenizer, or one that cannot be read.
    """
    folder = locate(path_or_name, copies.TOKENIZER)
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
    return tokens.has_tokenizer(locate(path_or_name, copies.TOKENIZER))


def load_stop_ids(path_or_name: str | pathlib.Path) -> tuple[int, ...]:
    """Ids that end a text by the folder's generation config, else by its config.

    Raises:
      ModelError: if there is no such folder, or they are no ids.
    """
    return tokens.declared_stops(locate(path_or_name))


def locate(
    path_or_name: str | pathlib.Path, patterns: Sequence[str] = KEPT
) -> pathlib.Path:
    """The local folder of a model; else the hub's files of these name patterns.

    Raises:
      ModelError: if there is neither.
    """
    path = pathlib.Path(path_or_name)
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError(f"{path} is a file; give the folder that it is in.")
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
