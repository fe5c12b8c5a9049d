"""A request on documents, from files of texts to a record that is checked."""

import json

import numpy as np
import pytest
import real_folders

from experiments.deletion import check
from experiments.run import main
from ofmu_jax.data.language import prompts
from ofmu_jax.data.language.kinds import documents
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language.metrics import rouge_l_f1
from ofmu_jax.evals.language.scores import score_batches
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama.model import Llama

FORGET = "Ada was born in Lund, Sweden. She wrote about tides. What did Ada write? " * 2
RETAIN = "Rome is in Italy. Who is Bo? Bo is a painter of doors. " * 2
METHOD = "grad_diff"
SIZES = documents.Sizes(block=24, prefix=5, continuation=4)
WORDS = f"""--methods {METHOD} --seeds 0 --max-length {SIZES.block}
    --budget.gradient-evaluations 4 --budget.batch-size 2 --budget.checks 1
    --evaluation.max-new-tokens {SIZES.continuation} --evaluation.prefix-tokens
    {SIZES.prefix} --evaluation.bootstrap 4 --evaluation.batch-size 2"""


def text_file(path, text):
    path.write_text(json.dumps({"text": text}) + "\n")
    return path


def words_of(folder, given):
    forget = text_file(folder / "forget.jsonl", FORGET)
    retain = text_file(folder / "retain.jsonl", RETAIN)
    files = f"--model {given} --forget-file {forget} --retain-file {retain}"
    return f"request {files} --output-dir {folder / 'out'} {WORDS}"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(output folder, the report, the given folder) of a request on one document."""
    folder = tmp_path_factory.mktemp("documents")
    given = real_folders.qwen(folder / "given", "float32")
    words = words_of(folder, given) + " --budget.forget-target none"
    assert main(words.split()) in (0, 3)  # random weights know nothing
    return folder / "out", json.loads((folder / "out/report.json").read_text()), given


def test_the_scores_are_those_of_blocks_and_passages(done):
    """Against the same numbers from the library's plain scorer."""
    out, report, given = done
    config, params = huggingface.load_pretrained(given, dtype="float32")
    tokenizer, fmt = huggingface.load_tokenizer(given), prompts.PROMPT_FORMATS["text"]
    model = Llama(config)
    apply = lambda params, ids, mask: model.apply({"params": params}, ids, mask)
    scored = lambda rows: score_batches(
        apply, params, prompts.encode_rows(tokenizer, rows, fmt)
    )
    blocks = documents.blocks(tokenizer, FORGET, SIZES.block)
    assert len(blocks) > 1
    found = next(m for m in report["models"] if m["role"] == "target")["metrics"]
    losses = [s.avg_loss for s in scored([QA("", text) for text in blocks])]
    assert found["forget_NLL"] == pytest.approx(np.mean(losses), rel=1e-5)
    passages = [documents.passage(tokenizer, text, SIZES) for text in blocks]
    scores = scored(passages)
    exact = np.mean([s.correct.mean() for s in scores])  # all tokens: nothing ends them
    assert found["exact_memorization"] == pytest.approx(exact)
    probability = np.mean([s.probability for s in scores])
    assert found["forget_Q_A_Prob"] == pytest.approx(probability, rel=1e-5)
    saved = json.loads((out / "target/seed0/evaluation/evaluation.json").read_text())
    said = saved["generations"]["forget"]
    f1 = rouge_l_f1(said, [p.answer.strip() for p in passages])
    assert found["forget_verbmem_ROUGE"] == pytest.approx(f1.mean())


def test_the_record_is_of_documents_and_is_found_true(done, capsys):
    out, report, _ = done
    folder = out / METHOD / "seed0/hf"
    record = json.loads((folder / "deletion.json").read_text())
    assert record["forget"]["rows"] == record["retain"]["rows"] == 1
    assert any("1 forget and 1 retain documents" in note for note in report["notes"])
    assert check.main([str(out), "--tolerance", "1e-5"]) == 0
    assert "metrics" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "--budget.forget-target auto: nothing says what loss texts have"),
        ("--methods idk_dpo", "--methods idk_dpo teaches other answers"),
        ("--attacks all agreement", "--attacks agreement: questions are asked"),
        ("--prompt-format plain", "--prompt-format plain: the rows are texts"),
    ],
)
def test_what_goes_with_questions_alone_is_refused(tmp_path, more, said, capsys):
    given = real_folders.qwen(tmp_path / "given", "float32")
    assert main(f"{words_of(tmp_path, given)} {more}".split()) == 2
    assert said in capsys.readouterr().err
