"""The rows of a language run and the scores of its exports, for a deletion record."""

import dataclasses
import fnmatch
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from experiments.config.language import LanguageRun, Request
from experiments.domains.base import Model, Origin
from experiments.domains.language import handed_back
from experiments.domains.language.data import divided, load_data
from experiments.domains.language.evaluated import evaluated
from experiments.domains.language.task import LanguageTask
from experiments.domains.language.vocabulary import format_of, texts_of
from experiments.stages.files import fingerprint
from experiments.stages.hashes import file_hashes
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.data.language.rows.read import read_rows
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface import readers, weights
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.parallel.distributed import on_main


def files_of(run: LanguageRun) -> dict[str, Any]:
    """`model_files` of each given model; whole files, read by one process for all."""
    read = lambda at: on_main(functools.partial(model_files, at))
    return {option: read(at) for option, at in run.given_models.items()}


def model_files(folder: str | pathlib.Path) -> dict[str, str]:
    """SHA-256 of what a model is read from: weights, config, tokenizer."""
    read = lambda name: any(fnmatch.fnmatch(name, p) for p in huggingface.FILES)
    return file_hashes(folder, read)


def told(sources: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What each set of rows was read from, as JSON values."""
    return [{"set": name, **source.told()} for name, source in sources.items()]


class LanguageEvidence:
    """Rows, and exports scored as their run did; each reference is scored once."""

    fields = tuple(field.name for field in dataclasses.fields(QA))

    def __init__(
        self,
        run: LanguageRun,
        data: UnlearningData,
        source: str | None = "",
        notes: Sequence[str] = (),
    ):
        self.run, self.data, self.name = run, data, data.name
        self._notes = list(notes)
        # The given model whose tokenizer exports have; None: it was built from the
        # rows; "": not known, as where records are checked.
        self.source = source
        self._tasks: dict[str, LanguageTask] = {}
        self._references: dict[pathlib.Path, Evaluation] = {}

    @classmethod
    def of(cls, run: LanguageRun, places: Mapping[str, pathlib.Path | None]) -> Self:
        """Reads the rows of a run again.

        Args:
          places: ``forget_file``, ``retain_file``, ``holdout_file``,
            ``adjacent_file``, ``forgotten_files``, where these are no longer where the
            run had them, and ``columns``.

        Raises:
          ValueError: data that cannot be read.
        """
        given: dict[str, Any] = {name: path for name, path in places.items() if path}
        if isinstance(run, Request):
            return cls(run, load_data(dataclasses.replace(run, **given))[0])
        data = load_data(run)[0]
        if "forget_file" in given:
            rows = read_rows(given["forget_file"]).rows
            data = dataclasses.replace(data, forget=rows)
        return cls(run, data)

    def items(self, part: str) -> Sequence[Any]:
        """The rows of ``forget`` or ``retain``, with all their fields."""
        return [dataclasses.asdict(row) for row in getattr(self.data, part)]

    def files(self) -> Sequence[Mapping[str, Any]]:
        return told(self.data.sources)

    def notes(self) -> Sequence[str]:
        if self.source is not None:
            return self._notes
        return [
            *self._notes,
            "The tokenizer was built from the data, forget rows included: its "
            "vocabulary (tokenizer.json) holds words of theirs.",
        ]

    def origin(self, model: Model) -> Origin:
        return handed_back.origin(self.source, self.run.lora.base == "nf4", model)

    def export(self, folder: pathlib.Path) -> Mapping[str, Any]:
        """Dtypes of the tensors, and who reads the folder (`huggingface.readers`).

        ``read_back_by`` has read this very folder: its config, its tokenizer and the
        headers of its weights.

        Raises:
          ModelError: that did not work.
        """
        config = huggingface.config_from_hf(huggingface.load_config(folder))
        huggingface.load_tokenizer(folder)
        return {
            "dtypes": weights.dtypes(folder, config),
            "readers": {
                "read_back_by": [f"transformers {readers.INSTALLED}"],
                "tested_with": [f"transformers {v}" for v in readers.TESTED],
                "limits": readers.problems_in_4(folder),
            },
        }

    def rescored(
        self, folder: pathlib.Path, reference: pathlib.Path | None = None
    ) -> Evaluation:
        """The evaluation of an exported model, and first of its reference.

        Raises:
          ValueError: a folder that cannot be read, or a model that has no scores.
        """
        against = None
        if reference is not None:
            if reference not in self._references:
                self._references[reference] = self._scored(reference, None)
            against = self._references[reference]
        return self._scored(folder, against)

    def tolerance(self, folder: pathlib.Path) -> float:
        """How far a metric may be off, for what the run computed in.

        Another machine may sum in another order, which moves the last digits and,
        seldom, a greedy answer. An export in 16 bits is the model that was scored.
        """
        return 1e-3 if self.run.dtype == "float32" else 5e-2

    def _scored(self, folder: pathlib.Path, against: Evaluation | None) -> Evaluation:
        config, params = huggingface.load_pretrained(folder, dtype="float32")
        config = dataclasses.replace(config, dtype=self.run.dtype)
        task = self._task(folder, config)
        return evaluated(task, params, divided(self.data, task), against)

    def _task(self, folder: pathlib.Path, config: LlamaConfig) -> LanguageTask:
        """One task for all models with the same conventions: compiled once."""
        run = self.run
        tokenizer = huggingface.load_tokenizer(folder, texts_of(self.data))
        stops = huggingface.load_stop_ids(folder)
        fmt = format_of(run, self.data, tokenizer)
        template = tokenizer.chat_template if fmt.chat else None
        special = {k: str(v) for k, v in tokenizer.special_tokens_map.items()}
        backend = tokenizer.backend_tokenizer.to_str()
        key = fingerprint(config, backend, fmt, template, special, stops)
        if key not in self._tasks:
            self._tasks[key] = LanguageTask(
                config,
                tokenizer,
                fmt,
                min(run.max_length, config.max_position_embeddings),
                run.evaluation,
                declared_stops=stops,
            )
        return self._tasks[key]
