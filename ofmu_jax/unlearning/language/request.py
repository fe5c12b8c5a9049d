"""`unlearn` for language models: rows in, the unlearned model out."""

import dataclasses
import functools
import json
import pathlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ofmu_jax.data.language import conversations
from ofmu_jax.data.language.kinds import documents
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA, DataError, UnlearningData
from ofmu_jax.data.language.refusals import REFUSALS
from ofmu_jax.data.language.tofu import load_custom
from ofmu_jax.methods.base import spec_of
from ofmu_jax.methods.language.ofmu import PRETRAINED
from ofmu_jax.methods.language.registry import METHODS
from ofmu_jax.methods.parts.lora import Lora
from ofmu_jax.methods.parts.subset import Part, Subset
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface.rounding import rounded
from ofmu_jax.unlearning.carried_out import carried_out
from ofmu_jax.unlearning.language import goal as goals
from ofmu_jax.unlearning.language.budgeted import budgeted
from ofmu_jax.unlearning.language.conventions import Evaluation
from ofmu_jax.unlearning.language.prompt_format import format_of
from ofmu_jax.unlearning.language.rows import request_batches
from ofmu_jax.unlearning.language.task import Params, Task
from ofmu_jax.unlearning.options import Asked, configured
from ofmu_jax.unlearning.result import Unlearned

Rows = str | pathlib.Path | Iterable[Mapping[str, Any] | QA]
BATCH_SIZE = 16


def unlearn(
    model: Any,
    forget: Rows,
    retain: Rows,
    asked: Asked,
    *,
    holdout: Rows | None = None,
    lora: int | Lora | None = None,
    trainable: str | None = None,
    prompt_format: str = "auto",
    max_length: int = 512,
    columns: Sequence[str] = (),
    allow_overlap: bool = False,
    **options: Any,
) -> Unlearned:
    """See `ofmu_jax.unlearn`."""
    name, evaluation = asked.method, Evaluation()
    spec = spec_of(METHODS, name)
    config = PRETRAINED if isinstance(spec.config, type(PRETRAINED)) else spec.config
    config, part = configured(name, config, options), part_of(lora, trainable)
    carries = spec.carries(config)
    data = read(forget, retain, holdout, allow_overlap, columns)
    task, target = _task(model, data, prompt_format, max_length, evaluation)
    if data.documents:
        sizes = documents.Sizes(
            task.max_length, evaluation.prefix_tokens, evaluation.max_new_tokens
        )
        data = documents.divided(data, task.tokenizer, sizes)
    _check(name, data, carries.alternative, asked)
    forget_rows = _encoded(task, "forget", data.forget)
    retain_rows = _encoded(task, "retain", data.retain)
    goal = goals.forget_target(str(asked.goal), data, task, target, None)
    if carries.target_nll is not None and goal is None:
        raise ValueError(
            f"{name} ascends to a forget target and there is none: leave out "
            "forget_target=None, or give a number of nats per token."
        )
    method, updates = budgeted(
        task,
        name,
        config,
        asked.gradient_evaluations,
        option="gradient_evaluations=",
        part=part,
    )
    look = goals.Look(task, forget_rows, retain_rows, asked.check_rows)
    batches = request_batches(
        task,
        data.forget,
        forget_rows,
        retain_rows,
        carries,
        target,
        asked.batch_size or BATCH_SIZE,
        asked.seed,
        num_stack=method.batches_per_update,
        refusals=REFUSALS,
        goal=goal,
    )
    run = carried_out(asked, method, target, batches, updates, look, goal, part)
    params, tokenizer = run.params, task.tokenizer
    if task.source is not None:  # as it is written
        params = rounded(params, task.config, huggingface.locate(task.source))
        tokenizer = None
    save = functools.partial(
        huggingface.save_pretrained,
        params=params,
        config=task.config,
        tokenizer=tokenizer,
        source=task.source,
    )
    return Unlearned(
        name,
        params,
        (task.config, params, task.tokenizer),
        {"before": look(target), "after": look(params)},
        goal,
        run.updates * method.gradient_evaluations,
        run,
        save,
    )


def part_of(lora: int | Lora | None, trainable: str | None) -> Part | None:
    """What of the parameters is changed; None: all of them."""
    if lora is not None and trainable is not None:
        raise ValueError(
            f"lora={lora} and trainable={trainable!r} exclude each other: adapters "
            "leave all parameters as they are; give one of them."
        )
    if trainable is not None:
        return Subset(trainable)
    return Lora(lora) if isinstance(lora, int) else lora


def read(
    forget: Rows,
    retain: Rows,
    holdout: Rows | None = None,
    allow_overlap: bool = False,
    columns: Sequence[str] = (),
) -> UnlearningData:
    """A request as `load_custom` reads it of files: rows in memory go the same way.

    >>> rows = [{"question": "Who?", "answer": "Ann."}]
    >>> read(rows, [QA("Where?", "In Rome.")]).retain[0].answer
    'In Rome.'

    Raises:
      DataError: naming the set, the row (from 1), the reason and the remedy.
    """
    given = {"forget": forget, "retain": retain, "holdout": holdout}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = {k: _file(folder / k, rows) for k, rows in given.items()}
        try:
            return load_custom(
                files["forget"] or "",
                files["retain"],
                holdout_file=files["holdout"],
                allow_overlap=allow_overlap,
                columns=columns,
            )
        except DataError as error:  # as the rows are known to their owner
            raise DataError(str(error).replace(f"{folder}/", "")) from None


def _file(path: pathlib.Path, rows: Rows | None) -> pathlib.Path | str | None:
    """Where rows lie as a file, which is written if they are in memory."""
    if rows is None or isinstance(rows, str | pathlib.Path):
        return rows
    lines = (_line(path.name, i, row) for i, row in enumerate(rows, 1))
    path.write_text("\n".join(lines))
    return path


def _line(name: str, number: int, row: Any) -> str:
    try:
        return json.dumps(_fields(row))
    except TypeError as error:
        raise DataError(
            f"{name}, row {number}: {error}; give a mapping of texts, as in JSON lines"
        ) from None


def _fields(row: Any) -> Any:
    if not isinstance(row, QA):
        return dict(row) if isinstance(row, Mapping) else row
    if row.is_text:
        return {"text": row.answer}
    fields = dataclasses.asdict(row)
    return fields | {"perturbed_answer": fields.pop("perturbed_answers") or None}


def _task(
    model: Any,
    data: UnlearningData,
    prompt_format: str,
    max_length: int,
    evaluation: Evaluation,
) -> tuple[Task, Params]:
    """The model with its tokenizer, and its parameters in float32."""
    source, stops = None, ()
    if isinstance(model, str | pathlib.Path):
        source, rows = str(model), (*data.forget, *data.retain)
        config, params = huggingface.load_pretrained(source, "float32")
        config = dataclasses.replace(config, attention="auto")
        texts = conversations.texts_of(rows)
        tokenizer = huggingface.load_tokenizer(source, texts)
        stops = huggingface.load_stop_ids(source)
    else:
        config, params, tokenizer = model
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    fmt = format_of(prompt_format, data, tokenizer)
    most = min(max_length, config.max_position_embeddings)
    task = Task(config, tokenizer, fmt, most, evaluation, source, declared_stops=stops)
    return task, params


def _check(name: str, data: UnlearningData, alternative: bool, asked: Asked) -> None:
    """What goes with questions alone: other answers to them, and these as chance."""
    if not data.documents:
        return
    if alternative:
        raise ValueError(
            f"{name} teaches other answers to the forget questions, and the forget "
            "rows are texts without any; choose another method."
        )
    if asked.goal in ("auto", "chance") and not data.holdout:
        raise ValueError(
            "nothing says what loss texts have that no model saw: give holdout=, or "
            "forget_target= a number of nats per token, or None."
        )


def _encoded(task: Task, name: str, rows: Iterable[QA]) -> list[Encoded]:
    try:
        return task.encode([*rows])
    except DataError as error:
        raise DataError(f"{name}, {error}") from None
