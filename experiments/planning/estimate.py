"""One update of a method, compiled for devices that need not be there.

The step is that of a run: the same model, method and placement, lowered for shapes
alone. No weight is ever made.
"""

import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from experiments.config.language import LanguageRun
from experiments.domains.language import job
from experiments.domains.language.method import part_of
from experiments.domains.language.task import LanguageTask
from experiments.planning import hlo
from ofmu_jax.evals.language import scores
from ofmu_jax.methods import Unmerged
from ofmu_jax.models.huggingface import weights
from ofmu_jax.parallel import gathering, sharding
from ofmu_jax.parallel.sharding import MeshError
from ofmu_jax.training import loop, placement

KEPT = 2  # copies of what is trained beside the step: at the start, best so far


class DoesNotFit(ValueError):
    """A step that needs more memory than a device has."""


class Estimate(NamedTuple):
    """What one update takes on one device; sizes in bytes."""

    parameters: int  # of the whole model, and the adapters of it if there are some
    state: int  # of the optimizers, and what a method keeps frozen
    batch: int
    temporaries: int  # and results that share no memory with what they replace
    step: int  # all of it: `training.step_bytes`
    run: int  # with the copies of what is trained that a run keeps beside it
    check: int  # what a check takes, with all that lies there meanwhile
    host_load: int  # of a process, beyond its devices: the largest slice of a parameter
    host_export: int  # of process 0: the largest tensor, in float32, and a block of it
    gradient_evaluations: float
    flops: float  # of matrix products
    sent: dict[str, float]  # bytes, by collective
    unknown_loops: int  # counted once in the two before

    @property
    def hosts(self) -> str:
        """A note on the memory of the hosts."""
        load, export = (f"{x / 1e9:.2f}" for x in (self.host_load, self.host_export))
        return (
            f"Host memory of a process beyond what lies on its devices: {load} GB to "
            f"load a model, a slice at a time; {export} GB to export one, a tensor at "
            "a time (process 0; float32 files, half with bfloat16 ones)."
        )


# --- devices ----------------------------------------------------------------------


def mesh_of(text: str, tpu: str | None = None) -> Mesh:
    """The mesh, on simulated devices unless the job has as many or more.

    Args:
      text: such as ``"fsdp=16"``.
      tpu: a slice such as ``"v5e:4x4"`` to compile for, without one at hand.

    Raises:
      MeshError: a size that is left open, or devices that are not there.
    """
    if tpu is not None:
        return sharding.make_mesh(text, tpu_devices(tpu))
    sizes = sharding.parse_mesh(text)
    if -1 in sizes.values():
        raise MeshError(
            f"the mesh {text!r} leaves a size open, and the devices of a plan are as "
            "many as it says; give the number in place of -1."
        )
    return sharding.make_mesh(sizes, _devices(math.prod(sizes.values())))


def _devices(count: int) -> Sequence[jax.Device]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # the devices of this process are in use already
        pass
    for devices in (jax.devices(), jax.devices("cpu")):
        if len(devices) >= count:
            return devices[:count]
    raise MeshError(
        f"the mesh has {count} devices and this process has set up only "
        f"{len(jax.devices())} before; plan in a process of its own."
    )


def tpu_devices(topology: str) -> Sequence[jax.Device]:
    """Devices of a TPU slice that is not at hand, for its compiler.

    Raises:
      MeshError: without the compiler, or for a topology that it does not know.
    """
    from jax.experimental import topologies

    if "TPU_SKIP_MDS_QUERY" not in os.environ:  # read when jax is imported: too late
        raise MeshError(
            f"--tpu {topology} needs TPU_SKIP_MDS_QUERY=1 in the environment, or TPU's "
            "compiler looks for a TPU of this machine."
        )
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing runs on one
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except Exception as error:  # of many kinds, from within the plug-in
        raise MeshError(
            f"--tpu {topology}: {str(error).splitlines()[0]} Give a topology such as "
            f"v5e:4x4, and install TPU's compiler: pip install 'jax[tpu]=="
            f"{jax.__version__}'."
        ) from error
    return found.devices


# --- shapes -----------------------------------------------------------------------


def shapes_of_batches(
    name: str, run: LanguageRun, count: int, length: int, mesh: Mesh
) -> dict[str, Any]:
    """Batches as a method's update takes them: ``count`` stacked, rows on the mesh."""
    rows = run.budget.batch_size
    lie = placement.row_sharding(mesh, before=1)
    tokens = jax.ShapeDtypeStruct((count, rows, length), jnp.int32, sharding=lie)
    number = jax.ShapeDtypeStruct((count, rows), jnp.float32, sharding=lie)
    plain = dict.fromkeys(("input_ids", "labels", "attention_mask"), tokens)
    forget: dict[str, Any] = dict(plain)
    carries = run.specs[name].carries(run.config_of(name))
    if carries.reference_nll:
        forget["reference_nll"] = number
    if carries.target_nll is not None:
        forget["target_nll"] = number
    if carries.alternative:
        forget |= {"alternative": plain, "alternative_reference_nll": number}
    return {"forget": forget, "retain": plain}


def bytes_per_device(tree: Any) -> int:
    """Of arrays or shapes of some."""
    sizes: Iterator[int] = (
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )
    return sum(sizes)


def host_bytes(task: LanguageTask) -> dict[str, int]:
    """What a process holds on its host at most, in a load and in an export."""
    assert task.mesh is not None
    slices = [bytes_per_device(x) for x in jax.tree.leaves(task.outline())]
    sizes = [4 * math.prod(shape) for _, shape in weights.tensor_shapes(task.config)]
    block = min(gathering.BLOCK, max(sizes)) if task.mesh.size > 1 else 0
    return {"host_load": max(slices), "host_export": max(sizes) + block}


# --- the step ---------------------------------------------------------------------


def estimate(name: str, run: LanguageRun, task: LanguageTask, length: int) -> Estimate:
    """Compiles one update of a method of the run and reads what it takes.

    Raises:
      DoesNotFit: a device that is too small, as its compiler finds.
      ValueError: a batch that the mesh or the micro-batches do not divide, or a
        configuration that does not work.
    """
    mesh = task.mesh
    assert mesh is not None  # a plan always has one
    method, _ = job.num_updates(name, run, task)
    trained, *fixed = _parts(run, task)
    state = sharding.outline(jax.eval_shape(method.init, trained, *fixed), mesh)
    batch = shapes_of_batches(name, run, method.batches_per_update, length, mesh)
    step = loop.Step(placement.on_mesh(method, mesh))
    compiled = _compiled(step.lower(trained, state, batch, *fixed))
    whole, text = loop.step_bytes(compiled), compiled.as_text()
    if whole is None or text is None:
        raise ValueError(
            f"the compiler for {mesh.devices.flat[0].platform} does not say what "
            "a program takes; plan with JAX_PLATFORMS=cpu."
        )
    held = [bytes_per_device(x) for x in ((trained, fixed), state, batch)]
    kept = KEPT * bytes_per_device(trained)
    part = part_of(run)
    scored = part if isinstance(part, Unmerged) else None
    check = sum(held) + kept + _scorer_bytes(task, length, scored)
    if run.lora.rank and scored is None:  # merged into a copy, and both are there
        check += bytes_per_device(task.outline())
    counts = hlo.counted(text, mesh.size)
    return Estimate(
        *held,
        temporaries=whole - sum(held),
        step=whole,
        run=whole + kept,
        check=check,
        **host_bytes(task),
        gradient_evaluations=method.gradient_evaluations,
        flops=counts.flops,
        sent=counts.sent,
        unknown_loops=counts.unknown_loops,
    )


def _parts(run: LanguageRun, task: LanguageTask) -> tuple[Any, ...]:
    """What is trained, and what of the parameters is only read if that is not all."""
    params, part = task.outline(), part_of(run)
    if part is None:
        return (params,)
    assert task.mesh is not None
    found = jax.eval_shape(part.split, params, jax.random.key(0))
    return tuple(sharding.outline(x, task.mesh) for x in found)


def _with_adapters(params: Any, part: Unmerged) -> Any:
    both = lambda fixed: part.merge(part.split(fixed)[0], fixed)
    return jax.eval_shape(both, params)


@functools.lru_cache(maxsize=8)
def _scorer_bytes(task: LanguageTask, length: int, part: Unmerged | None) -> int:
    """What the scores of a check take beside the parameters: all logits at once.

    Args:
      part: that is scored beside what stays as it is.
    """
    mesh = task.mesh
    assert mesh is not None
    parts = placement.row_parts(mesh)
    rows = -(-task.evaluation.batch_size // parts) * parts  # no other number runs
    tokens = jax.ShapeDtypeStruct(
        (rows, scores.bucket_length(length)),
        jnp.int32,
        sharding=task.row_sharding,
    )
    params = task.outline()
    if part is not None:
        params = sharding.outline(_with_adapters(params, part), mesh)
    lowered = scores.token_scores.lower(task.apply_fn, params, *[tokens] * 3)
    try:
        whole = loop.step_bytes(_compiled(lowered))
    except DoesNotFit as error:
        text = f"the scores of {rows} rows (--evaluation.batch-size): {error}"
        raise DoesNotFit(text) from error
    assert whole is not None  # the step's compiler has said it
    return whole - bytes_per_device(params)


def _compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        text = str(error)
        if "RESOURCE_EXHAUSTED" not in text:
            raise
        raise DoesNotFit(text.splitlines()[0]) from error
