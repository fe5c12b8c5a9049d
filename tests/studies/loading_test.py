"""What the host holds while models come in and go out, watched from within."""

import json

import numpy as np
import pytest

from experiments import benchmark
from experiments.studies import loading, loading_process
from ofmu_jax.models.huggingface.folder import load_pretrained

CONTENT = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def test_memory_that_is_gone_again_was_seen():
    with loading_process.watched() as found:
        np.ones(8_000_000).sum()  # 64 MB
    assert 60e6 < found["total"] < 90e6
    assert found["seconds"] > 0


def test_random_weights_are_a_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONTENT))
    config = loading.architecture(str(tmp_path))
    loading.write_random(tmp_path / "given", config)
    found, params = load_pretrained(tmp_path / "given")
    assert found.hidden_size == 32
    sizes = np.abs(np.asarray(params["embed_tokens"]["embedding"], np.float32))
    assert 2**-7 <= sizes.min() < sizes.max() < 2**-6


@pytest.mark.parametrize("count", ["0", "3"])
def test_processes_that_do_not_share_the_devices(count, capsys):
    assert benchmark.main(["loading", "--processes", count]) == 2
    assert f"--processes {count} do not share --devices 8" in capsys.readouterr().err


@pytest.mark.slow
def test_a_load_takes_little_more_than_the_share(tmp_path):
    """Of half a gigabyte on eight devices, in one process and in two."""
    output = tmp_path / "found.json"
    options = ["--model", "smollm2-135m", "--folder", str(tmp_path)]
    assert benchmark.main(["loading", *options, "--output", str(output)]) == 0
    found = json.loads(output.read_text())["processes"]
    assert [row["processes"] for row in found] == [1, 2, 2]
    whole = 4 * 134_515_008
    for row in found:
        load, export = row["load"], row["export"]
        # Norms lie whole in every process.
        assert load["share"] == pytest.approx(whole / row["processes"], rel=0.001)
        assert load["share"] < load["RssAnon"] < 1.2 * load["share"]
        assert load["total"] < 1.4 * load["share"]  # with pages of the files
        assert export["RssAnon"] < 0.3e9  # the table of embeddings is 0.11
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
