"""Loaders on arbitrary input: a valid result or the project's own error, nothing else.

`data_json_lines_test` does the same for single files of rows.
"""

import copy
import json

import model_families as families
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tofu_rows import all_texts

from ofmu_jax.data.language import records
from ofmu_jax.data.language.records import QA, DataError, UnlearningData
from ofmu_jax.data.language.tofu import load_custom
from ofmu_jax.models import tensor_files
from ofmu_jax.models.huggingface.folder import ModelError, config_from_hf, load_config
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.tensor_files import SINGLE, read_tensors


def quick(examples):
    return settings(
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


TEXT = st.sampled_from(["a?", "A?", " a? ", "b?", "", "\ud800", "ß"]) | st.text(
    max_size=3
)
PART = TEXT | st.none() | st.floats() | st.lists(TEXT, max_size=2)
ROW = st.fixed_dictionaries(
    {"question": TEXT, "answer": TEXT},
    optional={"paraphrased_question": PART, "perturbed_answer": PART},
)
FILE = st.lists(ROW | PART, max_size=3).map(
    lambda rows: "\n".join(map(json.dumps, rows)).encode()
) | st.binary(max_size=12)


@quick(60)
@given(FILE, FILE, st.none() | FILE, st.booleans())
def test_any_request(tmp_path, forget, retain, holdout, allow):
    paths = {}
    files = {"forget": forget, "retain": retain, "holdout": holdout}
    for name, content in files.items():
        if content is not None:
            paths[f"{name}_file"] = tmp_path / name
            paths[f"{name}_file"].write_bytes(content)
    try:
        data = load_custom(**paths, allow_overlap=allow)
    except DataError:
        return
    assert data.forget and data.retain
    assert len(set(data.forget)) == len(data.forget)
    assert allow or not set(data.forget) & set(data.retain)
    "".join(all_texts(data)).encode()


ROWS = st.lists(
    st.builds(QA, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT, st.tuples(TEXT)),
    max_size=4,
)


@quick(60)
@given(ROWS, ROWS)
def test_any_rows(forget, retain):
    checks = (
        lambda: records.check_overlap(forget, retain),
        lambda: records.check_distinct(forget, "rows"),
        lambda: records.check_contained(forget, retain, "part", "whole"),
        lambda: records.check_unseen(forget, retain),
        lambda: UnlearningData("x", tuple(forget), tuple(retain), tuple(forget)),
    )
    for check in checks:
        try:
            check()
        except DataError as error:
            assert len(str(error)) < 1000
    rest = records.subtract(forget, retain)
    records.check_overlap(rest, retain)


WORDS = st.sampled_from(["llama", "default", "llama3", "silu", "float32", "x", ""])
ENTRY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["rope_type", "factor", "rope_theta", "x"]), inner
        )
    ),
    max_leaves=3,
)
CONFIG = json.loads(families.hf_config("llama2").to_json_string(use_diff=False))
NAMES = st.sampled_from([*CONFIG, "auto_map", "quantization_config"])


@quick(80)
@given(st.dictionaries(NAMES, ENTRY, min_size=1, max_size=2))
def test_any_config(tmp_path, entries):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | entries))
    try:
        config = config_from_hf(load_config(tmp_path))
    except ModelError:
        return
    assert isinstance(config, LlamaConfig)
    hash(config)


@quick(60)
@given(NAMES, ENTRY)
def test_any_config_made_in_python(name, entry):
    config = copy.deepcopy(families.hf_config("llama2"))
    object.__setattr__(config, name, entry)
    try:
        assert isinstance(config_from_hf(config), LlamaConfig)
    except ModelError:
        pass


TENSORS = dict(list(families.tensors_of("llama2").items())[:2])


@quick(80)
@given(st.integers(0, 400), st.binary(max_size=9), st.booleans())
def test_any_safetensors(tmp_path, at, damage, cut):
    path = tmp_path / SINGLE
    tensor_files.safetensors.numpy.save_file(TENSORS, path)
    content = path.read_bytes()
    tail = b"" if cut else content[at + len(damage) :]
    path.write_bytes(content[:at] + damage + tail)
    try:
        for name, tensor, file in read_tensors(tmp_path):
            assert isinstance(name, str) and tensor.size >= 0 and file == SINGLE
    except ModelError as error:
        assert str(tmp_path) in str(error)


@quick(40)
@given(ENTRY | st.dictionaries(st.just("weight_map"), ENTRY), st.booleans())
def test_any_index(tmp_path, index, text):
    content = json.dumps(index) if text else "{" + json.dumps(index)
    (tmp_path / tensor_files.INDEX).write_text(content)
    try:
        assert list(read_tensors(tmp_path)) == []
    except ModelError:
        pass
