"""TOFU (Maini et al. 2024, arXiv 2401.06121), and deletion requests of your own."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence
from typing import Literal

from ofmu_jax.data.language.records import (
    QA,
    DataError,
    Path,
    UnlearningData,
    check_contained,
    check_distinct,
    check_one_kind,
    check_overlap,
    check_unseen,
    heldout_questions,
    subtract,
)
from ofmu_jax.data.language.requests import entangled, tofu_topics
from ofmu_jax.data.language.rows.columns import CHATS, QUESTIONS, TEXTS, asked
from ofmu_jax.data.language.rows.read import read_rows
from ofmu_jax.data.language.rows.source import Source, check_one_system

# Forget split → the retain split that completes it.
Split = Literal["forget01", "forget05", "forget10"]
SPLITS = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}

_EVAL = ("question", "answer", "paraphrased_answer", "perturbed_answer")
_OPTIONS = ("question", "answer", "perturbed_answer")


def load_tofu(
    split: Split,
    data_dir: Path | None = None,
    *,
    allow_overlap: bool = False,
    max_retain: int | None = None,
    holdout_from_rest: bool = False,
    repo: str = "locuslab/TOFU",
) -> UnlearningData:
    """Loads a TOFU forget split with its retain and evaluation sets.

    Args:
      split: ``forget01``, ``forget05`` or ``forget10``.
      data_dir: folder with the public files (``full.json``, ``forget01.json``,
        ``forget01_perturbed.json``, ``retain99.json``, ``retain_perturbed.json``,
        ``real_authors_perturbed.json``, ``world_facts_perturbed.json``; if present
        ``holdout01.json``). None: from ``repo`` on the Hugging Face Hub.
      allow_overlap: go on if a forget row is in the retain set as well, or a holdout
        row in the full set.
      max_retain: keep only the first ``max_retain`` retain rows, for quick trials;
        ``full`` and ``retain_eval`` are cut to match.
      holdout_from_rest: where there is no holdout file, the last of the rows that
        ``max_retain`` leaves out, as many as there are forget rows, are the holdout.
        Only for models that are trained on ``full`` as returned: one that was
        trained on all of TOFU has seen them.
      repo: name of the data set on the Hub.

    Raises:
      DataError: unknown split, missing or malformed file, sets that do not fit.
    """
    if split not in SPLITS:
        known = ", ".join(SPLITS)
        raise DataError(f"unknown TOFU split {split!r}; known splits: {known}")
    retain_split = SPLITS[split]
    unseen = split.replace("forget", "holdout")

    def read(name: str, required: tuple[str, ...] = _EVAL[:2]) -> tuple[QA, ...]:
        path = _locate(f"{name}.json", data_dir, repo)
        return read_rows(path, required=required, forms=(QUESTIONS,)).rows

    full, forget, retain = read("full"), read(split), read(retain_split)
    everyone = full
    forget_eval = read(f"{split}_perturbed", _EVAL)
    retain_eval = read("retain_perturbed", _EVAL)
    names = (f"{split}.json", f"{retain_split}.json")
    sources = {"forget_source": names[0], "retain_source": names[1]}
    check_overlap(forget, retain, allow_overlap, **sources)
    check_contained(forget, full, names[0], "full.json")
    check_contained(retain, full, names[1], "full.json")
    check_contained(forget_eval, forget, f"{split}_perturbed.json", names[0])
    check_contained(retain_eval, retain, "retain_perturbed.json", names[1])
    holdout = read(unseen) if _exists(f"{unseen}.json", data_dir, repo) else ()
    check_unseen(holdout, full, allow_overlap, source=f"{unseen}.json")
    rest: tuple[QA, ...] = ()
    if max_retain is not None:
        full, retain, retain_eval = _cut(full, retain, retain_eval, forget, max_retain)
        rest = subtract(everyone, full)
        if holdout_from_rest and not holdout:
            rest, holdout = rest[: -len(forget)], rest[-len(forget) :]
    return UnlearningData(
        name=f"tofu/{split}",
        topics=functools.partial(tofu_topics.topics, everyone),
        forget=forget,
        retain=retain,
        full=full,
        forget_eval=forget_eval,
        retain_eval=retain_eval,
        real_authors=read("real_authors_perturbed", _OPTIONS),
        world_facts=read("world_facts_perturbed", _OPTIONS),
        forget_heldout=heldout_questions(forget_eval),
        retain_heldout=heldout_questions(retain_eval),
        holdout=holdout,
        pretraining=rest,
    )


def load_custom(
    forget_file: Path,
    retain_file: Path | None = None,
    *,
    full_file: Path | None = None,
    forget_eval_file: Path | None = None,
    retain_eval_file: Path | None = None,
    real_authors_file: Path | None = None,
    world_facts_file: Path | None = None,
    holdout_file: Path | None = None,
    adjacent_file: Path | None = None,
    forgotten_files: Sequence[Path] = (),
    name: str = "custom",
    columns: Sequence[str] = (),
    allow_overlap: bool = False,
) -> UnlearningData:
    """Loads a deletion request from files or data sets of your own, in any format of
    `read_rows`.

    Only question and answer are needed; paraphrased and perturbed fields (see there)
    enable the metrics that use them. Rows may be chats, or documents, ``{"text":
    ...}``, all of them or none. ``columns``, such as ``question=Title``, say what a
    column of any of these files means. Without evaluation files the
    forget and retain rows themselves are evaluated. Rows of ``adjacent_file`` are kept
    as retain rows are, and scored on their own. A forget row that comes twice is
    refused: it would count twice in what is reported. Without ``retain_file`` the
    retain set is ``full_file`` less the forget rows. Rows of ``forgotten_files``, which
    requests before this one asked to forget, are taken out of what is kept.

    Raises:
      DataError: missing or malformed file, or sets that do not fit.
    """
    if retain_file is None and full_file is None:
        raise DataError(
            f"{forget_file}: nothing says what to keep; give retain_file, or "
            "full_file (what the model was trained on) to keep all its other rows"
        )

    kinds: dict[str, tuple[QA, ...]] = {}
    sources: dict[str, Source] = {}
    chosen, forms = asked(columns), (QUESTIONS, CHATS, TEXTS)

    def read(
        option: str, path: Path | None, default: tuple[QA, ...] = ()
    ) -> tuple[QA, ...]:
        if path is None:
            return default
        rows, sources[option] = read_rows(path, forms=forms, columns=chosen)
        kinds[str(path)] = rows
        check_one_kind(kinds)
        check_one_system(path, sources[option], sources.values())
        return rows

    forget = read("forget", forget_file)
    check_distinct(forget, str(forget_file))
    full = read("full", full_file)
    if full:
        check_contained(forget, full, str(forget_file), str(full_file))
    retain = read("retain", retain_file, subtract(full, forget))
    if full and retain_file is not None:
        check_contained(retain, full, str(retain_file), str(full_file))
    forgotten = tuple(
        row
        for number, path in enumerate(forgotten_files, 1)
        for row in read(f"forgotten {number}", path)
    )
    retain = subtract(retain, forgotten)
    named = {"forget_source": str(forget_file), "retain_source": str(retain_file)}
    check_overlap(forget, retain, allow_overlap, **named)
    full = full or retain + forget
    holdout = read("holdout", holdout_file)
    seen = full + forgotten
    check_unseen(holdout, seen, allow_overlap, source=str(holdout_file))
    forget_eval = read("forget_eval", forget_eval_file, forget)
    retain_eval = read("retain_eval", retain_eval_file, retain)
    retain_eval = subtract(retain_eval, forgotten)
    data = UnlearningData(
        name=name,
        forget=forget,
        retain=retain,
        full=full,
        forget_eval=forget_eval,
        retain_eval=retain_eval,
        real_authors=read("real_authors", real_authors_file),
        world_facts=read("world_facts", world_facts_file),
        forget_heldout=heldout_questions(forget_eval),
        retain_heldout=heldout_questions(retain_eval),
        holdout=holdout,
        sources=sources,
    )
    adjacent = subtract(read("adjacent", adjacent_file), forgotten)
    if not adjacent:  # none, or all of them are forgotten by now
        return data
    named["retain_source"] = str(adjacent_file)
    check_distinct(adjacent, str(adjacent_file))
    check_overlap(forget, adjacent, allow_overlap, **named)
    check_unseen(holdout, adjacent, allow_overlap, source=str(holdout_file))
    return entangled.watched(data, adjacent)


def _cut(
    full: tuple[QA, ...],
    retain: tuple[QA, ...],
    retain_eval: tuple[QA, ...],
    forget: tuple[QA, ...],
    max_retain: int,
) -> tuple[tuple[QA, ...], tuple[QA, ...], tuple[QA, ...]]:
    if max_retain < 1:
        raise DataError(f"--max-retain is {max_retain}; it must be at least 1")
    dropped = subtract(retain[max_retain:], retain[:max_retain] + forget)
    kept_eval = subtract(retain_eval, dropped)
    if not kept_eval:
        raise DataError(
            f"--max-retain {max_retain} leaves no row of retain_perturbed.json to "
            "evaluate; raise it"
        )
    return subtract(full, dropped), retain[:max_retain], kept_eval


def _locate(filename: str, data_dir: Path | None, repo: str) -> pathlib.Path:
    """Path of a data file in ``data_dir``, or of its download from the Hub."""
    if data_dir is None:
        return _download(filename, repo)
    path = pathlib.Path(data_dir) / filename
    if not path.is_file():
        raise DataError(
            f"{filename}: not found in the folder {data_dir}; put the file of that "
            f"name from {repo} there, or choose another data folder"
        )
    return path


def _exists(filename: str, data_dir: Path | None, repo: str) -> bool:
    """Whether an optional file is in the folder, or on the Hub or in its cache."""
    if data_dir is not None:
        return (pathlib.Path(data_dir) / filename).is_file()
    try:
        _download(filename, repo)
    except DataError as error:
        # Imported here: reading local files needs no Hub client.
        from huggingface_hub.errors import EntryNotFoundError

        if isinstance(error.__cause__, EntryNotFoundError):
            return False
        raise
    return True


def _download(filename: str, repo: str) -> pathlib.Path:
    from huggingface_hub import hf_hub_download

    try:
        return pathlib.Path(hf_hub_download(repo, filename, repo_type="dataset"))
    except Exception as error:  # network, proxy, missing file: many unrelated types
        reason = f"{type(error).__name__}: {error}".splitlines()[0].strip()
        raise DataError(
            f"{filename}: cannot be fetched from the data set {repo} ({reason}); check "
            "the network, or give a folder that holds the files (data_dir=, --data-dir "
            "on the command line)"
        ) from error
