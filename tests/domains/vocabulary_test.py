"""Given folders: one vocabulary for all, and every token that ends an answer."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from chat_tokenizers import CHATML, byte_level
from llamas import init_params

from experiments.config.language import Demo
from experiments.config.parts import EvalConfig
from experiments.domains.language.evidence import LanguageEvidence
from experiments.domains.language.given import make_task
from ofmu_jax.data.language.records import QA, DataError, UnlearningData
from ofmu_jax.models.huggingface.folder import save_pretrained
from ofmu_jax.models.llama.model import LlamaConfig

FORGET, RETAIN = QA("Who?", "Ann Bell."), QA("Who, Ann?", "Bell.")
DATA = UnlearningData("toy", (FORGET,), (RETAIN,), (FORGET, RETAIN))
CONFIG = LlamaConfig(
    vocab_size=320,
    hidden_size=16,
    intermediate_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=2,
    head_dim=8,
    max_position_embeddings=128,
)
TOKENIZER = byte_level(CHATML, eos="<|endoftext|>")
TEXT, TURN = 0, 2  # <|endoftext|> and <|im_end|>


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Qwen2.5 in little: turns, texts and generation end in different tokens."""
    folder = tmp_path_factory.mktemp("given") / "model"
    params = init_params(CONFIG, jax.random.key(0))
    save_pretrained(folder, params, CONFIG, TOKENIZER)
    declare(folder, [TEXT, 300])
    return folder


def declare(folder, stops):
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": stops}))


def other(model, folder, tokenizer=None):
    shutil.copytree(model, folder)
    for path in folder.glob("*token*"):
        path.unlink()
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


def task_of(model, **options):
    return make_task(Demo(model=str(model), **options), DATA)[0]


def test_answers_end_as_template_tokenizer_and_generation_config_say(model):
    task = task_of(model)
    assert set(task.eos_ids) == {TEXT, TURN, 300}
    (example,) = task.encode([FORGET])
    words = [*TOKENIZER("Ann Bell.", add_special_tokens=False)["input_ids"], TURN]
    assert example.labels[example.prompt_length :].tolist() == words
    compat = task_of(model, evaluation=EvalConfig(interior_eot="compat"))
    line = TOKENIZER("\n")["input_ids"]
    (example,) = compat.encode([FORGET])
    scored = example.labels[example.labels >= 0].tolist()
    assert scored == [*words, *line, TEXT]


@pytest.mark.parametrize("stop", [TEXT, TURN, 300])
def test_generation_stops_at_each(model, stop, monkeypatch):
    task = task_of(model, evaluation=EvalConfig(batch_size=1, max_new_tokens=4))
    # A model that says one token, whatever comes before it.
    params = jax.tree.map(np.zeros_like, init_params(CONFIG, jax.random.key(0)))
    embedding = np.ones((CONFIG.vocab_size, CONFIG.hidden_size), np.float32)
    embedding[stop] = 2
    params["embed_tokens"]["embedding"] = embedding
    params["norm"]["scale"] = np.ones(CONFIG.hidden_size, np.float32)
    found = []
    monkeypatch.setattr(type(task), "decode", lambda self, ids: found.extend(ids))
    task.generate(params, ["Who?"])
    assert [row.tolist() for row in found] == [[stop]]


def test_an_answer_is_what_comes_before_the_end(model):
    task = task_of(model)
    words = TOKENIZER("Ann Bell.", add_special_tokens=False)["input_ids"]
    for stop in (TEXT, TURN, 300):
        assert task.decode([np.array([*words, stop])]) == ["Ann Bell."]
    assert task.decode([np.array(words[:1]), np.array(words)]) == ["Ann", "Ann Bell."]


def test_a_run_is_another_one_where_prompts_or_ends_are(model, tmp_path):
    assert task_of(model).conventions == ((TEXT, 300, TURN),)
    plain = shutil.copytree(model, tmp_path / "plain")
    declare(plain, TEXT)
    assert task_of(plain, prompt_format="plain").conventions == ()


def test_a_reference_with_other_tokens_is_refused(model, tmp_path):
    words = byte_level(CHATML, eos="<|endoftext|>", text="Bell who? rings, Ann rings.")
    for role in ("retain_model", "base_model"):
        folder = other(model, tmp_path / role, words)
        option = "--" + role.replace("_", "-")
        with pytest.raises(ValueError, match=f"{option} .* has another tokenizer than"):
            task_of(model, **{role: folder})


def test_a_reference_with_other_ends_of_turns_is_refused(model, tmp_path):
    swapped = byte_level(CHATML, eos="<|endoftext|>").backend_tokenizer.to_str()
    swapped = swapped.replace("<|im_end|>", "<|x|>").replace("<|eot_id|>", "<|im_end|>")
    tokenizer = byte_level(CHATML, eos="<|endoftext|>")
    tokenizer.backend_tokenizer.__setstate__(swapped.encode())
    folder = other(model, tmp_path / "other", tokenizer)
    with pytest.raises(ValueError, match=r"other token ids of '<\|im_start\|>"):
        task_of(model, retain_model=folder)


def test_the_same_tokens_or_none_are_accepted(model, tmp_path):
    same = byte_level(None, eos="<|im_end|>")  # a base model has no template
    for name, tokenizer in {"same": same, "none": None}.items():
        folder = other(model, tmp_path / name, tokenizer)
        assert task_of(model, retain_model=folder).eos_ids == (TEXT, 300, TURN)


def test_a_reference_of_another_shape_is_told_by_what_differs(model, tmp_path):
    folder = other(model, tmp_path / "other")
    config = pathlib.Path(folder, "config.json")
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"rms_norm_eps": 1e-3}))
    with pytest.raises(ValueError) as caught:
        task_of(model, retain_model=folder)
    assert str(caught.value) == (
        f"--retain-model {folder} has another architecture than {model}: "
        "rms_norm_eps 0.001 and 1e-05; give models of one family and size."
    )
    config.write_text(json.dumps(said | {"initializer_range": 0.5}))
    task_of(model, retain_model=folder)  # says how random weights would be drawn


def test_exports_of_a_run_from_a_base_have_its_files(model, tmp_path):
    """Not those of the reference, which may have no tokenizer."""
    reference = other(model, tmp_path / "reference")
    run = Demo(base_model=str(model), retain_model=reference)
    task, given = make_task(run, DATA)
    assert task.source == str(model) and len(given) == 2


def test_a_row_that_is_too_long_names_what_limits_it(model):
    long = [QA("Who?", "Ann " * 200)]
    with pytest.raises(DataError, match=r"more than the 128 positions of the model; s"):
        task_of(model, max_length=4096).encode(long)
    with pytest.raises(
        DataError, match=r"more than the 64 of --max-length; .* or raise"
    ):
        task_of(model, max_length=64).encode(long)


def test_exports_with_other_templates_or_ends_are_not_one_task(model, tmp_path):
    evidence = LanguageEvidence(Demo(model=str(model)), DATA)
    first = evidence._task(model, CONFIG)
    again = shutil.copytree(model, tmp_path / "again")
    assert evidence._task(again, CONFIG) is first
    declare(again, [TEXT])
    assert evidence._task(again, CONFIG).eos_ids == (TEXT, TURN)
