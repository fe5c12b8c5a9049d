"""Bad inputs: models, tokenizers, rows for them, and losses.

A case is what is done with a temporary folder, the exception that must come, and parts
of its message: the value at fault and what to do about it.
"""

import json
import os

import chat_tokenizers
import jax.numpy as jnp
import model_families as families
import numpy as np
import optax

from experiments.config.language import Demo
from experiments.domains.language import given as language
from experiments.domains.language.data import load_data
from ofmu_jax import methods
from ofmu_jax.data.language import prompts
from ofmu_jax.data.language.padding import Encoded
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.evals.language.scores import EvaluationError, score_batches
from ofmu_jax.models.huggingface.folder import (
    ModelError,
    load_pretrained,
    save_pretrained,
)
from ofmu_jax.training import checkpoint, loop
from ofmu_jax.training.checkpoint import CheckpointError

NAN, INF = float("nan"), float("inf")


KERNEL = "model.layers.1.mlp.up_proj.weight"


def model(change=None, tensors=lambda all: None, name="llama2"):
    """Loads a tiny model whose tensors and folder were changed."""

    def act(folder):
        found = families.tensors_of(name)
        tensors(found)
        families.write(folder, families.FAMILIES[name], found)
        if change is not None:
            change(folder)
        load_pretrained(folder)

    return act


def edit_config(**entries):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def only_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def only(*names):
    """A folder of these files, in place of its weights."""

    def change(folder):
        (folder / "model.safetensors").unlink()
        for name in names:
            (folder / name).write_bytes(b"x")

    return change


def put(at, number):
    def change(tensors):
        tensors[at] = tensors[at].copy()
        tensors[at].flat[3] = number

    return change


def as_type(dtype):
    return lambda tensors: tensors.update({KERNEL: tensors[KERNEL].astype(dtype)})


def too_large_for_float16(folder):
    config, params = load_pretrained(
        families.write(
            folder / "in", families.FAMILIES["llama2"], families.tensors_of("llama2")
        )
    )
    params["norm"]["scale"] = params["norm"]["scale"].at[0].set(1e6)
    save_pretrained(folder / "out", params, config, dtype="float16")


def task_of(tokenizer=None, entries=(), **settings):
    """The task of a run on a tiny given model with this tokenizer."""

    def act(folder):
        config = families.FAMILIES["llama2"] | dict(entries)
        families.write(folder, config, families.tensors_of("llama2"))
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        run = Demo(model=str(folder), **settings)
        task, _ = language.make_task(run, DATA)
        task.encode([QA("Who?", "Ann.")])

    return act


def other_architecture(folder):
    names = "llama2", "qwen2"
    for name in names:
        families.write(
            folder / name, families.FAMILIES[name], families.tensors_of(name)
        )
    paths = {
        f: str(folder / n)
        for f, n in zip(("model", "retain_model"), names, strict=True)
    }
    language.make_task(Demo(**paths), DATA)


def encode(question, answer, tokenizer, fmt="plain", **options):
    return lambda folder: prompts.encode_rows(
        tokenizer,
        [QA("Who?", "Ann."), QA(question, answer)],
        prompts.PROMPT_FORMATS[fmt],
        **options,
    )


def nothing_to_score(folder):
    ids = np.arange(3, dtype=np.int32)
    score_batches(None, None, [Encoded(ids, np.full(3, -100, np.int32), 1)])


def train(loss, check=None, params=1.0):
    """Trains one parameter on a loss of it."""

    def act(folder):
        method = methods.fine_tune(lambda p, batch: loss * p["w"], optax.sgd(0.1))
        start = {"w": jnp.asarray(params)}
        batches = iter([{"retain": jnp.zeros(1)}] * 4)
        loop.run(method, start, batches, num_updates=2, check=check)

    return act


def restore(like):
    def act(folder):
        checkpoint.save(folder / "checkpoint", {"w": jnp.ones(3, jnp.float32)})
        checkpoint.restore(folder / "checkpoint", {"w": like})

    return act


DATA = load_data(Demo(people=3, forget_people=1))[0]
BUILT_IN = build_tokenizer(["Who? Ann."], 300)


LLAMA2, LLAMA3 = chat_tokenizers.llama2(), chat_tokenizers.llama3()


CHATML = chat_tokenizers.chatml()


CASES = {
    # --- models
    "no folder": (
        lambda folder: load_pretrained(folder / "x"),
        ModelError,
        "there is no model folder",
    ),
    "no config": (load_pretrained, ModelError, "has no config.json", "a model folder?"),
    "gpt2": (model(edit_config(model_type="gpt2")), ModelError, "'gpt2'", "supported"),
    "code": (
        model(edit_config(auto_map={"AutoModelForCausalLM": "code.Net"})),
        ModelError,
        "code.Net",
        "remove auto_map",
    ),
    "foreign code": (
        model(edit_config(model_type="net", auto_map={"AutoConfig": "code.Net"})),
        ModelError,
        "config.json of",
        "supported model types are",
    ),
    "pickle": (model(only_a_pickle), ModelError, "is a pickle", "save_pretrained"),
    "adapter": (
        model(only("adapter_model.safetensors", "training_args.bin")),
        ModelError,
        "adapter_model.safetensors belongs to an adapter",
        "merge the two (merge_and_unload in peft)",
    ),
    "no weights": (
        model(only("training_args.bin", "optimizer.bin")),
        ModelError,
        "has no model.safetensors and no model.safetensors.index.json.",
    ),
    "gguf": (model(only("m.gguf")), ModelError, "m.gguf is GGUF", "the original model"),
    "cut off": (
        model(lambda folder: os.truncate(folder / "model.safetensors", 300)),
        ModelError,
        "not a whole safetensors file",
        "download it again",
    ),
    "lacks": (model(tensors=lambda t: t.pop(KERNEL)), ModelError, KERNEL, "incomplete"),
    "shape": (
        model(tensors=lambda t: t.update({KERNEL: np.zeros((2, 3), np.float32)})),
        ModelError,
        "has shape (2, 3)",
        "give the config.json that belongs to it",
    ),
    "weight nan": (
        model(tensors=put(KERNEL, NAN)),
        ModelError,
        KERNEL,
        "earlier check",
    ),
    "weight inf": (model(tensors=put(KERNEL, INF)), ModelError, KERNEL, "infinite"),
    "int8": (model(tensors=as_type("int8")), ModelError, "is I8", "unquantised"),
    "float64": (model(tensors=as_type("float64")), ModelError, "is F64", "F32, F16"),
    "overflow": (too_large_for_float16, ModelError, "as float16", "dtype='float32'"),
    "two models": (
        other_architecture,
        ValueError,
        "another architecture",
        "one family",
    ),
    "checkpoint dtype": (
        restore(jnp.ones(3, jnp.bfloat16)),
        CheckpointError,
        "w is float32(3,), expected bfloat16(3,)",
    ),
    # --- tokenizers
    "no tokenizer": (task_of(), ModelError, "has no tokenizer", "copy the tokenizer"),
    "no end": (
        encode("Who?", "Ann.", chat_tokenizers.word_tokenizer()),
        DataError,
        "no end-of-sequence token",
        "set eos_token in tokenizer_config.json",
    ),
    "no padding": (
        task_of(
            chat_tokenizers.word_tokenizer(),
            {"eos_token_id": None},
            prompt_format="plain",
        ),
        DataError,
        "neither a padding nor an end-of-sequence token",
        "set pad_token in tokenizer_config.json",
    ),
    "vocabulary": (
        task_of(BUILT_IN),
        DataError,
        "row 1: token id",
        "61 embeddings; give the tokenizer that belongs to the model",
    ),
    "no format": (task_of(BUILT_IN, prompt_format="alpaca"), DataError, "'alpaca'"),
    # --- rows
    "control": (encode("Who?", "A </s> B", LLAMA2), DataError, "row 2", "'</s>'"),
    "control question": (encode("<s>?", "A", LLAMA2), DataError, "'<s>'", "reword"),
    "control in a chat": (
        encode("Who? <|eot_id|>", "A", LLAMA3, "chat"),
        DataError,
        "row 2: question 'Who? <|eot_id|>'",
        "put a space into it",
    ),
    "turn": (encode("<|im_start|>", "A", CHATML, "chat"), DataError, "<|im_start|>"),
    "too long row": (
        encode("Who?", "Ann. " * 9, LLAMA2, max_length=16),
        DataError,
        "row 2: question 'Who?': 32 tokens",
        "raise --max-length",
    ),
    "cut to nothing": (
        encode("Who? " * 9, "A", LLAMA2, max_length=16, on_overlength="truncate"),
        DataError,
        "no token of the answer 'A' is left",
        "raise --max-length",
    ),
    "all masked": (
        nothing_to_score,
        EvaluationError,
        "no labelled token",
        "drop the row",
    ),
    # --- training
    "start nan": (train(1.0, params=NAN), FloatingPointError, "['w'] is not finite"),
    "check nan": (
        train(1.0, check=lambda p: {"forget_nll": NAN}),
        FloatingPointError,
        "forget_nll is nan before the first update",
    ),
}
