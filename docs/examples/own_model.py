"""An NNX model of one's own: it learns the digits, and is to forget the threes.

python docs/examples/own_model.py
"""

import math

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import ofmu_jax
from ofmu_jax.data.vision.images import load_digits


class Network(nnx.Module):
    """Any module will do."""

    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        pixels = images.reshape(len(images), -1) / 255
        return self.head(nnx.relu(self.hidden(pixels)))


def loss(model: Network, batch) -> jax.Array:
    """Mean cross-entropy: low on what the model knows."""
    logits = model(batch["images"])
    labels = batch["labels"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@nnx.jit
def step(model: Network, optimizer: nnx.Optimizer, batch) -> None:
    """One update of the training that comes before."""
    optimizer.update(model, nnx.grad(loss)(model, batch))


def accuracy(model: Network, batch) -> float:
    """Share of images that are recognised."""
    return float(jnp.mean(model(batch["images"]).argmax(-1) == batch["labels"]))


def main():
    """The run, and the accuracies on test images of threes and of other digits."""
    digits = load_digits()
    train, test = ({**vars(part)} for part in (digits.train, digits.test))
    of = lambda batch, three: jax.tree.map(
        lambda x: x[(batch["labels"] == 3) == three], batch
    )

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    for _ in range(100):
        step(model, optimizer, train)

    run = ofmu_jax.unlearn(
        model,
        forget=of(train, True),
        retain=of(train, False),
        loss=loss,
        forget_target=math.log(10),  # a guess among ten digits
        gradient_evaluations=300,
    )
    print(run)
    found = {}
    for when, network in (("before", model), ("after", run.model)):
        found[when] = [accuracy(network, of(test, three)) for three in (True, False)]
        print(f"{when}: test accuracy on threes {found[when][0]:.2f}, ", end="")
        print(f"on other digits {found[when][1]:.2f}")
    return run, found


if __name__ == "__main__":
    main()
