"""`ofmu_jax.unlearn` on language models: as the commands, and with words of its own."""

import dataclasses

import jax
import numpy as np
import pytest
import real_folders

from experiments.config.language import Request
from experiments.config.parts import BudgetConfig, LoraConfig
from experiments.domains.language.domain import LanguageDomain
from ofmu_jax import training, unlearn
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.methods import Lora
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.unlearning.language import request

FORGET = [QA("Where was Ada born?", "In Lund."), QA("Who is Ada?", "A writer.")]
RETAIN = [
    QA("Where is Rome?", "In Italy.", perturbed_answers=("In Spain.",)),
    QA("Who is Bo?", "A painter of doors."),
    QA("What is a door?", "It is a way in."),
]
ROWS = [{"question": "Where was Ada born?", "answer": "In Lund."}]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return real_folders.qwen(tmp_path_factory.mktemp("folder") / "given", "float32")


@pytest.fixture(scope="module")
def ours(given):
    """(config, params, tokenizer), as the README of a library user has them."""
    return (*huggingface.load_pretrained(given), huggingface.load_tokenizer(given))


SAME = dict(gradient_evaluations=14, batch_size=2, checks=2, seed=3, max_length=64)


def of_the_commands(given, tmp_path, method, **changes):
    """What the pipeline trains for the same request: its job, run to the end."""
    files = {}
    for name, rows in (("forget_file", FORGET), ("retain_file", RETAIN)):
        pairs = [(row.question, row.answer) for row in rows]
        files[name] = real_folders.rows(tmp_path / f"{name}.jsonl", *pairs)
    run = Request(
        model=str(given),
        methods=(method,),
        max_length=64,
        budget=BudgetConfig(gradient_evaluations=14, batch_size=2, checks=2),
        **files,
        **changes,
    )
    domain = LanguageDomain.of(run)
    target = domain.given("target").params
    goal = domain.forget_target(target, None)
    job = domain.unlearning(method, 3, target, goal)
    start, more = job.start(), {}
    if job.part is not None:
        start, more["fixed"] = job.part.split(start, jax.random.key(3))
    whole = lambda x: x if job.part is None else job.part.merge(x, more["fixed"])
    found = training.run(
        job.method,
        start,
        job.stream(),
        num_updates=job.num_updates,
        check=lambda x: job.check(whole(x)),
        check_every=job.check_every,
        stopping=job.stopping,
        **more,
    )
    return goal, found, whole(found.params)


def test_ofmu_takes_the_steps_of_the_commands(given, tmp_path):
    ofmu = Request.ofmu
    plain = dataclasses.replace(ofmu, beta=0.0)  # compiles in half the time
    goal, found, params = of_the_commands(given, tmp_path, "ofmu", ofmu=plain)
    run = unlearn(given, FORGET, RETAIN, beta=0, **SAME)
    assert run.forget_target == goal
    assert run.history == found.metrics and run.checks == found.checks
    assert run.stopped == found.stopped
    jax.tree.map(np.testing.assert_array_equal, run.params, params)


@pytest.mark.slow
def test_adapters_are_those_of_the_commands(given, tmp_path):
    goal, found, params = of_the_commands(
        given, tmp_path, "gradient_ascent", lora=LoraConfig(rank=2, alpha=4.0)
    )
    lora = Lora(2, 4.0)
    run = unlearn(given, FORGET, RETAIN, method="gradient_ascent", lora=lora, **SAME)
    assert (run.forget_target, run.checks) == (goal, found.checks)
    jax.tree.map(np.testing.assert_array_equal, run.params, params)
    assert run.gradient_evaluations == found.updates


def test_a_model_in_memory_is_returned_and_written(ours, tmp_path):
    before = jax.tree.map(np.asarray, ours[1])
    run = unlearn(
        ours,
        FORGET,
        RETAIN,
        method="gradient_ascent",
        learning_rate=1e-2,
        gradient_evaluations=3,
        forget_target=None,
    )
    jax.tree.map(np.testing.assert_array_equal, ours[1], before)  # nothing is changed
    metrics = run.metrics
    assert metrics["after"]["forget_prob"] < metrics["before"]["forget_prob"]
    assert [row["update"] for row in run.history] == [1, 2, 3]
    assert str(run).startswith("gradient_ascent: forget_nll ")
    run.save_pretrained(tmp_path / "out")
    config, params = huggingface.load_pretrained(tmp_path / "out")
    assert config == run.model[0]
    jax.tree.map(np.testing.assert_array_equal, params, run.params)
    tokenizer = huggingface.load_tokenizer(tmp_path / "out")
    assert tokenizer("Ada")["input_ids"] == ours[2]("Ada")["input_ids"]
    with pytest.raises(FileExistsError):
        run.save_pretrained(tmp_path / "out")


def test_rows_come_as_files_do(tmp_path):
    data = request.read(FORGET, RETAIN, [QA("Who is Eve?", "A pilot.")])
    assert (data.forget, data.retain) == (tuple(FORGET), tuple(RETAIN))
    assert data.holdout[0].answer == "A pilot."
    path = real_folders.rows(tmp_path / "forget.jsonl", ("Who is Ada?", "A writer."))
    assert request.read(path, iter(RETAIN)).forget[0] == FORGET[1]
    texts = request.read([{"text": "Ada wrote."}], [QA("", "Bo paints.")])
    assert texts.documents and texts.retain[0].answer == "Bo paints."


NO_ANSWER = [*ROWS, {"question": "Who?", "reply": "Ann."}]
REFUSED = {
    "row": (
        dict(forget=NO_ANSWER),
        DataError,
        "^forget, row 2: .*'answer' is m",
    ),
    "no text": (dict(retain=[b"x"]), DataError, "^retain, row 1: .*bytes"),
    "overlap": (dict(retain=ROWS), DataError, r"^forget, row 1.*\(allow_overlap=\)"),
    "too long": (dict(max_length=4), DataError, "^forget, row 1.*raise max_length=$"),
    "method": (dict(method="npoo"), ValueError, "did you mean npo"),
    "option": (dict(lerning_rate=1.0), TypeError, "did you mean outer_learning_rate"),
    "loss option": (dict(method="npo", bta=1.0), TypeError, "mean beta.*gamma, alpha"),
    "word": (dict(base="outside"), ValueError, "base='outside' must be 'inner' or 'o"),
    "bound": (dict(beta=-1.0), ValueError, "beta=-1.0 must be at least 0"),
    "kind": (dict(inner_steps=1.5), ValueError, "inner_steps=1.5 must be a whole"),
    "budget": (dict(gradient_evaluations=2), ValueError, "than gradient_evaluations="),
    "batch": (dict(batch_size=0), ValueError, "batch_size=0 must be at least 1"),
    "target": (dict(forget_target="soon"), ValueError, "forget_target is soon"),
    "no target": (dict(forget_target=None), ValueError, "leave out forget_target=None"),
    "two parts": (dict(lora=2, trainable="norm"), ValueError, "exclude each other"),
    "no part": (dict(trainable="nothing"), ValueError, "no parameter has a path"),
    "not ours": (dict(crop_padding=1), TypeError, "crop_padding= is no option of ofmu"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words_of_the_call(name, ours):
    given, kind, message = REFUSED[name]
    sets = {"forget": ROWS, "retain": RETAIN} | given
    with pytest.raises(kind, match=message):
        unlearn(ours, **sets)


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"model is a dict: give a folder.*loss="):
        unlearn({"w": 1.0}, ROWS, RETAIN)
