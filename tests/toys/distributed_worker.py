"""One process of `distributed_test`: does a little and leaves what it found."""

import functools
import json
import pathlib
import sys

import jax
import numpy as np
import optax

from ofmu_jax import methods
from ofmu_jax.data.language.batches import paired_batches, single_batches
from ofmu_jax.data.language.padding import Encoded
from ofmu_jax.evals.language.shared_prompts import PromptedModel, score_answers
from ofmu_jax.losses import likelihood
from ofmu_jax.models.llama import generation, prompted
from ofmu_jax.models.llama.model import Llama, LlamaConfig, init_params
from ofmu_jax.parallel import distributed, sharding
from ofmu_jax.training import checkpoint, loop, placement

VOCABULARY, ROWS, LENGTH = 16, 8, 6
PARAMS = {
    "lm_head": np.sin(np.arange(VOCABULARY**2, dtype=np.float32)).reshape(
        VOCABULARY, VOCABULARY
    )
}


def bigram(params, input_ids, attention_mask):
    """A model whose logits are a row of its table."""
    del attention_mask
    return params["lm_head"][input_ids]


def rows(seed):
    """Rows with different numbers of scored tokens."""
    ids = np.random.default_rng(seed).integers(VOCABULARY, size=(ROWS, LENGTH))
    scored = np.arange(LENGTH) > np.arange(ROWS)[:, None] % 4
    labels = np.where(scored, ids, -100)
    arrays = {"input_ids": ids, "labels": labels, "attention_mask": np.ones_like(ids)}
    return {name: x.astype(np.int32) for name, x in arrays.items()}


def train(
    spec: str | None, folder: pathlib.Path, order: list[int] | None = None
) -> dict:
    """Three updates of OFMU on a mesh, or without one; as JSON values."""
    loss = functools.partial(likelihood.cross_entropy, bigram)
    method = methods.ofmu_method(
        loss,
        loss,
        outer_optimizer=optax.adam(0.1),
        inner_optimizer=optax.sgd(0.1),
        inner_steps=1,
        beta=0.5,
        rho=0.1,
    )
    options = {"num_stack": method.batches_per_update}
    params = jax.tree.map(jax.numpy.asarray, PARAMS)
    if spec is None:
        stream = paired_batches(rows(0), rows(1), ROWS, 0, **options)
    else:
        mesh = mesh_of(spec, order)
        shard = placement.host_shard(mesh)
        stream = paired_batches(rows(0), rows(1), ROWS, 0, shard=shard, **options)
        stream = placement.placed(stream, mesh)
        method, params = placement.on_mesh(method, mesh), sharding.place(PARAMS, mesh)
    run = loop.run(method, params, stream, num_updates=3, check_every=1)
    found = {"metrics": run.metrics, "stopped": run.stopped}
    checkpoint.save(folder / "checkpoint", run.params)
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        run.params,
    )
    again = checkpoint.restore(folder / "checkpoint", like)
    whole = distributed.to_host(again)["lm_head"]
    np.testing.assert_array_equal(whole, distributed.to_host(run.params)["lm_head"])
    return found | {"table": whole.tolist()}


def mesh_of(spec: str, order: list[int] | None) -> jax.sharding.Mesh:
    """The mesh of these devices: each is the next one of the process named."""
    devices = jax.devices()
    if order is not None:
        rest = {p: [d for d in devices if d.process_index == p] for p in set(order)}
        devices = [rest[process].pop(0) for process in order]
    return sharding.make_mesh(spec, devices)


def evaluate(spec: str | None) -> dict:
    """Greedy tokens and losses of a Llama on a mesh, or without one; as JSON values."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        initializer_range=0.7,
    )
    model, params = Llama(config), init_params(config, jax.random.key(0))
    options: dict = {"batch_size": 4}
    if spec is not None:
        mesh = mesh_of(spec, None)
        params = sharding.place(jax.device_get(params), mesh)
        options["sharding"] = placement.row_sharding(mesh)
    prompts = [np.arange(1, length, dtype=np.int32) for length in (3, 7, 2, 5, 9, 4)]
    found = generation.generate(
        model, params, prompts, max_new_tokens=6, eos_token_ids=[1, 5, 9, 13], **options
    )
    texts = [
        Encoded(ids, np.where(np.arange(len(ids)) < len(prompt), -100, ids), 1)
        for prompt in prompts
        for ids in (np.append(prompt, [4, 5, 0]), np.append(prompt, [7, 0]))
    ]
    parts = (functools.partial(f, model) for f in (prompted.read, prompted.follow))
    scores = score_answers(PromptedModel(*parts), params, texts, **options)
    return {
        "tokens": [row.tolist() for row in found],
        "losses": [x.avg_loss for x in scores],
    }


def answer(address: str, process: str, spec: str, folder: str) -> None:
    """One of two processes: writes what an evaluation gives."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    assert distributed.initialize(address, 2, int(process))
    found = evaluate(spec)
    (pathlib.Path(folder) / f"{process}.json").write_text(json.dumps(found))


def lay(address: str, process: str, cases: str, folder: str) -> None:
    """One of four processes: writes where the rows went on each mesh."""
    assert distributed.initialize(address, 4, int(process))
    found = []
    for spec, order in json.loads(cases):
        mesh = mesh_of(spec, order)
        count = 2 * placement.row_parts(mesh)
        tokens = np.arange(count, dtype=np.int32)[:, None]
        batch = {"input_ids": tokens, "labels": tokens, "attention_mask": tokens}
        shard = placement.host_shard(mesh)
        options = {"num_stack": 2, "shuffle": False, "shard": shard}
        stream = single_batches(batch, count, 0, **options)
        x = next(placement.placed(stream, mesh))["input_ids"]
        rows = distributed.to_host(x)[..., 0].tolist()
        found.append({"blocks": shard.blocks, "rows": rows, "count": count})
    (pathlib.Path(folder) / f"{process}.json").write_text(json.dumps(found))


def main(address: str, process: str, spec: str, order: str, folder: str) -> None:
    """Joins the job and writes ``<process>.json``."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    assert distributed.initialize(address, 2, int(process))
    path = pathlib.Path(folder)
    found = train(spec, path, json.loads(order))
    found["devices"] = [jax.local_device_count(), jax.device_count()]
    found["told"] = distributed.on_main(lambda: {"by": jax.process_index()})
    try:
        distributed.on_main(lambda: 1 // 0)
    except (ZeroDivisionError, distributed.OtherProcessError) as error:
        found["error"] = f"{type(error).__name__}: {error}"
    (path / f"{process}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    {"answer": answer, "lay": lay, "train": main}[sys.argv[1]](*sys.argv[2:])
