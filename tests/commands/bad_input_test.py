"""Everything that can be wrong with an input, in one table: each is refused in words.

The cases are in `bad_inputs_runs` and `bad_inputs_models`. Every way a single file can
be broken is in `data_json_lines_test` and `models_errors_test`.
"""

import bad_inputs_models
import bad_inputs_runs
import jax.numpy as jnp
import model_families as families
import optax
import pytest
from bad_inputs_models import BUILT_IN, INF, KERNEL, NAN
from bad_inputs_runs import GOOD, rows

from experiments.run import main
from ofmu_jax import methods
from ofmu_jax.data.language import prompts
from ofmu_jax.models.huggingface.folder import load_pretrained
from ofmu_jax.training import loop

CASES = bad_inputs_runs.CASES | bad_inputs_models.CASES


@pytest.mark.parametrize("name", CASES)
def test_is_refused_in_words(name, tmp_path):
    act, error, *parts = CASES[name]
    with pytest.raises(error) as caught:
        act(tmp_path)
    for part in parts:
        assert part in str(caught.value)


def test_what_only_looks_wrong_is_taken(tmp_path):
    """A byte order mark; the spelling of another tokenizer's control token."""
    rows(b"\xef\xbb\xbf" + GOOD)(tmp_path)
    text = "It ends with </s>."
    example = prompts.encode(BUILT_IN, "Who?", text, prompts.PROMPT_FORMATS["plain"])
    assert BUILT_IN.decode(example.input_ids[example.prompt_length : -1]) == text
    assert not set(example.input_ids[1:-1]) & set(BUILT_IN.all_special_ids)


def test_mixed_halves_are_read_in_float32(tmp_path):
    tensors = {
        k: v.astype(jnp.bfloat16) for k, v in families.tensors_of("llama2").items()
    }
    tensors[KERNEL] = tensors[KERNEL].astype("float16")
    folder = families.write(tmp_path, families.FAMILIES["llama2"], tensors)
    _, params = load_pretrained(folder)
    assert params["layers"]["up_proj"]["kernel"].dtype == jnp.float32
    assert params["layers"]["down_proj"]["kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize("loss", [NAN, INF])
def test_a_loss_that_breaks_gives_back_good_parameters(loss):
    method = methods.fine_tune(lambda p, batch: loss * p["w"], optax.sgd(0.1))
    batches = iter([{"retain": jnp.zeros(1)}] * 4)
    run = loop.run(method, {"w": jnp.ones(())}, batches, num_updates=2)
    assert not run.finite and float(run.params["w"]) == 1.0
    assert "returned the last good parameters, of update 0" in run.stopped


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["demo", "--train.learning-rate", "nan"], "--train.learning-rate is nan"),
        (["demo", "--budget.batch-size", "0"], "--budget.batch-size is 0"),
        (["demo", "--budget.batch-size", "10000000"], "between 1 and 1,000,000"),
        (["cifar", "--batch-size", "10000000"], "between 2 and 1,000,000"),
        (["demo", "--model", "{out}/nowhere"], "there is no model folder"),
        (["demo", "--retain-model", "{out}"], "give --model"),
        (["tofu", "--data-dir", "{out}"], "full.json: not found in the folder"),
        (
            ["request", "--model", "{out}/..", "--forget-file", "{out}/report.json"],
            "field 'question' is missing",
        ),
        (["demo", "--train.epochs", "many"], "many"),
    ],
)
def test_the_command_says_so_in_a_line_and_nothing_is_lost(
    arguments, part, tmp_path, capsys
):
    """Status 2, no traceback, and the results of an earlier run stay as they are."""
    out = tmp_path / "out"
    for name in ("report.json", "target/seed0/training/checkpoint/array"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text('{"kept": 1}')
    (out / "target/seed0/training.stage.json").write_text('{"fingerprint": "x"}')
    state = lambda: {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    before = state()
    arguments = [a.format(out=out) for a in [*arguments, "--output-dir", "{out}"]]
    try:
        status = main(arguments)
        printed = capsys.readouterr()
        lines = [x for x in printed.err.splitlines() if x.startswith("error: ")]
        assert printed.out == ""
        assert len(lines) == 1 and part in lines[0]
    except SystemExit as stop:  # the parser's own refusal
        status, printed = stop.code, capsys.readouterr()
        assert part in printed.out + printed.err
    assert status == 2
    assert "Traceback" not in printed.out + printed.err
    assert state() == before
