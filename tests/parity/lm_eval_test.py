"""Scores of choices, and the adapter, against lm-evaluation-harness itself.

Its own model class runs transformers' PyTorch model of the same folder. Set OFMU_MODEL
to the folder of a real model to have that compared as well.
"""

import json
import os
import pathlib

import lm_eval
import numpy as np
import pytest
import real_folders
import yaml
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ofmu_jax.data.language.kinds.choices import Exam, read_choices
from ofmu_jax.data.language.kinds.continuations import continued
from ofmu_jax.evals.language import choices
from ofmu_jax.evals.language.scores import score_batches
from ofmu_jax.evals.lm_eval import LM

TEMPLATES = {
    "letters": "mmlu/default/_default_template_yaml",
    "texts": "mmlu/continuation/_continuation_template_yaml",
}
SUBJECT = "geography"
DESCRIPTIONS = {
    "letters": f"The following are multiple choice questions (with answers) about "
    f"{SUBJECT}.\n\n",
    "texts": f"The following are questions (with answers) about {SUBJECT}.\n\n",
}
ROWS = [
    {
        "question": " Where is Rome?",
        "choices": ["Italy", "Oslo", "a", "é"],
        "answer": 0,
    },
    {
        "question": "Who wrote? ",
        "choices": ["Bo", "Ada ", "it is", "東京"],
        "answer": 1,
    },
    {"question": "1 + 1", "choices": ["2", "33", "4", "505"], "answer": 0},
]
# Nats. Float32 on both sides: sums over the tokens of a long text differ by more.
CLOSE = {"atol": 1e-4, "rtol": 5e-6}


@pytest.fixture(scope="module", params=["qwen", "llama3", "mistral", "real"])
def folder(request, tmp_path_factory):
    if request.param != "real":
        make = real_folders.FOLDERS[request.param]
        return make(tmp_path_factory.mktemp(request.param) / "model", "float32")
    if "OFMU_MODEL" not in os.environ:
        pytest.skip("OFMU_MODEL names no folder of a real model")
    return pathlib.Path(os.environ["OFMU_MODEL"])


@pytest.fixture(scope="module")
def theirs(folder):
    # Without its cache of logits, which takes those of another place where one pair's
    # tokens are another's; and without the penalty that Qwen's generation config sets.
    model = HFLM(str(folder), dtype="float32", device="cpu", logits_cache=False)
    model.model.generation_config.repetition_penalty = 1.0
    return model


@pytest.fixture(scope="module")
def ours(folder):
    return LM(folder, batch_size=4)


@pytest.fixture(scope="module")
def rows_file(folder, tmp_path_factory):
    """Real rows where there are some, for a real model."""
    data = pathlib.Path(os.environ.get("OFMU_DATA", "../shared/data"))
    real = data / "multiple_choice/mmlu/geography.jsonl"
    if str(folder) == os.environ.get("OFMU_MODEL") and real.is_file():
        lines = real.read_text().splitlines()[:6]
    else:
        lines = [json.dumps(row) for row in ROWS]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def asked(style, path, model):
    """What the harness finds with its own MMLU task on other rows."""
    tasks = pathlib.Path(lm_eval.__file__).parent / "tasks"
    config = yaml.safe_load((tasks / TEMPLATES[style]).read_text())
    config |= {
        "task": f"local_{style}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "description": DESCRIPTIONS[style],
    }
    del config["fewshot_split"]
    config.pop("fewshot_config", None)
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[config],
        num_fewshot=0,
        bootstrap_iters=0,
        # It would read the files of all its tasks first, for most of the time.
        task_manager=TaskManager(include_defaults=False),
    )
    samples = sorted(found["samples"][config["task"]], key=lambda x: x["doc_id"])
    scores = [[x[0] for x in sample["filtered_resps"]] for sample in samples]
    return np.array(scores), found["results"][config["task"]]


@pytest.mark.parametrize("style", TEMPLATES)
def test_every_choice_scores_as_in_the_harness(style, rows_file, theirs, ours):
    expected, results = asked(style, rows_file, theirs)
    rows = read_choices(rows_file).rows
    exam = Exam({"forget": rows}, style, SUBJECT)

    def follow(pairs):
        apply = lambda params, ids, mask: ours.model.apply(
            {"params": params}, ids, mask
        )
        examples = [continued(ours.tokenizer, *pair) for pair in pairs]
        return score_batches(apply, ours.params, examples, batch_size=4)

    found = choices.log_likelihoods(rows, exam, follow)
    np.testing.assert_allclose(np.array(found), expected, **CLOSE)
    assert choices.chosen(rows, found).mean() == pytest.approx(results["acc,none"])
    adapted, again = asked(style, rows_file, ours)
    np.testing.assert_allclose(adapted, expected, **CLOSE)
    assert again["acc,none"] == results["acc,none"]


def instances(kind, *arguments):
    return [Instance(kind, {}, each, index) for index, each in enumerate(arguments)]


def test_texts_of_any_length_score_alike(theirs, ours):
    """Longer than what a model reads at once, and in one piece."""
    texts = [(real_folders.TEXT * 3,), ("Ada",), ("Rome is in Italy.",)]
    requests = instances("loglikelihood_rolling", *texts)
    before = ours.max_length, theirs._max_length
    ours.max_length = theirs._max_length = 16
    try:
        found = [model.loglikelihood_rolling(requests) for model in (ours, theirs)]
    finally:
        ours.max_length, theirs._max_length = before
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_pairs_without_a_context_score_alike(theirs, ours):
    pairs = [("", "Ada was born"), ("Ada ", "was born"), ("Ada\n", "was")]
    requests = instances("loglikelihood", *pairs)
    found = [model.loglikelihood(requests) for model in (ours, theirs)]
    np.testing.assert_allclose(*([s for s, _ in of] for of in found), **CLOSE)
    assert [greedy for _, greedy in found[0]] == [greedy for _, greedy in found[1]]


def test_texts_end_alike(theirs, ours):
    options = {"until": ["a"], "max_gen_toks": 8, "do_sample": False}
    longer = {"until": ["\n\n"], "max_gen_toks": 12}
    contexts = [("Where was Ada born?", options), ("Bo is", options), ("A", longer)]
    found = [
        model.generate_until(instances("generate_until", *contexts))
        for model in (ours, theirs)
    ]
    assert found[0] == found[1]
