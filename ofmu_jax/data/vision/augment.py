"""Random crop and mirror image, on the device, from a key alone."""

import jax
import jax.numpy as jnp


def augment(
    key: jax.Array, images: jax.Array, *, padding: int, flip: bool
) -> jax.Array:
    """Each image shifted by up to ``padding`` pixels and, by chance, mirrored.

    The crop of its own size is taken from the image with ``padding`` zero pixels
    around it, as the field trains on CIFAR (padding 4). Equal keys give equal images.

    Args:
      images: (B, H, W, C).
      padding: a Python integer ≥ 0; 0 does not shift.
      flip: a Python bool.
    """
    shift_key, flip_key = jax.random.split(key)
    if padding:
        wide = jnp.pad(images, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
        offsets = jax.random.randint(shift_key, (len(images), 2), 0, 2 * padding + 1)
        shape = images.shape[1:]
        crop = lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), shape)
        images = jax.vmap(crop)(wide, offsets)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (len(images), 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images
