"""One update on eight simulated devices against one."""

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.parallel import sharding
from ofmu_jax.parallel.sharding import make_mesh
from ofmu_jax.training import placement

MESH = "data=2,fsdp=2,tensor=2"


def both(method, params, batches, mesh):
    """Update and metrics on one device and on the mesh."""
    # A frozen copy is not the very model: its KL's gradient would be rounding alone.
    begun = jax.tree.map(lambda x: 0.9 * x, params)
    one = jax.jit(method.update)(params, method.init(begun), batches)
    there = placement.on_mesh(method, mesh)
    placed = jax.tree.map(jnp.copy, sharding.place(params, mesh))  # for donation
    many = jax.jit(there.update, donate_argnums=(0, 1))(
        placed,
        there.init(sharding.place(begun, mesh)),
        placement.place_batches(batches, mesh),
    )
    return one, many, placed


def assert_equal_updates(method, params, batches, tolerance=1e-5):
    one, many, placed = both(method, params, batches, make_mesh(MESH))
    change = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), one[0], params)
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(change))
    assert scale > 0
    for (path, a), b in zip(
        jax.tree.leaves_with_path(one[0]), jax.tree.leaves(many[0]), strict=True
    ):
        bound = tolerance * max(1.0, scale)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=bound, err_msg=str(path))
    for name, value in one[2].items():
        found = many[2][name]
        assert found.is_fully_replicated
        np.testing.assert_allclose(value, found, rtol=1e-3, atol=1e-4, err_msg=name)
    wanted = sharding.shardings(params, make_mesh(MESH))
    same = lambda x, s: x.sharding.is_equivalent_to(s, x.ndim)
    assert jax.tree.all(jax.tree.map(same, many[0], wanted))
    assert any(x.is_deleted() for x in jax.tree.leaves(placed))  # donated and used
