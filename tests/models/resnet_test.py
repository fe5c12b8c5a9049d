"""Residual networks: against loops in numpy, parameter counts, BatchNorm as state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rest_slow

from ofmu_jax.models import resnet

RNG = np.random.default_rng(0)
SHALLOW = "resnet8", "resnet20", "resnet18"


# --- an independent forward pass: explicit windows, float64 -------------------------


def conv(x, kernel, stride):
    """Correlation with zero padding k // 2; x (B, H, W, C), kernel (k, k, C, D)."""
    k = kernel.shape[0]
    x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    rows = range(0, x.shape[1] - k + 1, stride)
    columns = range(0, x.shape[2] - k + 1, stride)
    return np.stack(
        [
            np.stack(
                [np.tensordot(x[:, i : i + k, j : j + k], kernel, 3) for j in columns],
                1,
            )
            for i in rows
        ],
        1,
    )


class Reference:
    """Walks the parameter tree by the layers' names."""

    def __init__(self, variables, train):
        self.params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables[0])
        self.stats = jax.tree.map(lambda x: np.asarray(x, np.float64), variables[1])
        self.train = train

    def norm(self, x, params, stats):
        mean, var = stats["mean"], stats["var"]
        if self.train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]

    def layer(self, x, params, stats, number, stride, relu):
        y = conv(x, params[f"conv{number}"]["kernel"], stride)
        y = self.norm(y, params[f"bn{number}"], stats[f"bn{number}"])
        return np.maximum(y, 0) if relu else y

    def block(self, x, name, stride, number_of_convs):
        params, stats = self.params[name], self.stats[name]
        y = x
        for number in range(1, number_of_convs + 1):
            strided = number == (2 if number_of_convs == 3 else 1)
            last = number == number_of_convs
            y = self.layer(y, params, stats, number, stride if strided else 1, not last)
        if "conv_shortcut" in params:
            x = self.layer(x, params, stats, "_shortcut", stride, False)
        elif x.shape != y.shape:
            more = y.shape[-1] - x.shape[-1]
            x = x[:, ::stride, ::stride]
            x = np.pad(x, ((0, 0),) * 3 + ((more // 2, more - more // 2),))
        return np.maximum(x + y, 0)

    def __call__(self, images, config):
        shape = resnet.SHAPES[config.name]
        x = (images / 255 - np.array(config.mean)) / np.array(config.std)
        x = self.layer(x, self.params, self.stats, "_stem", 1, True)
        convs = 3 if shape.block == "bottleneck" else 2
        for stage, blocks in enumerate(shape.blocks):
            for index in range(blocks):
                stride = 2 if stage and not index else 1
                x = self.block(x, f"stage{stage}_block{index}", stride, convs)
        head = self.params["head"]
        return x.mean((1, 2)) @ head["kernel"] + head["bias"]


def random_variables(config, size):
    """Initial variables with every scale, bias, mean and variance made random."""
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    variables = init(config, jax.random.key(1), size)

    def shake(path, x):
        name = path[-1].key
        noise = RNG.normal(size=x.shape) * 0.2
        x = np.asarray(x)
        return x if name == "kernel" else (x + np.abs(noise)).astype(np.float32)

    return resnet.Variables(
        *(jax.tree_util.tree_map_with_path(shake, tree) for tree in variables)
    )


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", rest_slow([*SHALLOW, "resnet50"], SHALLOW))
def test_forward_pass_is_that_of_explicit_loops(name, train):
    config = resnet.ResNetConfig(name, num_classes=5)
    variables = random_variables(config, 16)
    images = RNG.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    forward = jax.jit(resnet.apply, static_argnums=(0, 4))
    logits, _ = forward(config, *variables, jnp.asarray(images), train)
    expected = Reference(variables, train)(images.astype(np.float64), config)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, atol=2e-4 * scale, rtol=1e-3)


# torchvision's counts for 10 classes, less 64·3·(49 − 9) weights of the 7×7 stem;
# He et al. give 0.27 M and 0.85 M for 20 and 56 layers.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_181_642 - 64 * 3 * 40),
        ("resnet50", 23_528_522 - 64 * 3 * 40),
        ("resnet20", 269_722),
        ("resnet56", 853_018),
    ],
)
def test_number_of_parameters(name, count):
    init = lambda: resnet.init_variables(resnet.ResNetConfig(name), jax.random.key(0))
    shapes = jax.eval_shape(init)
    assert sum(x.size for x in jax.tree.leaves(shapes.params)) == count


def test_running_averages_follow_the_batch_only_in_training():
    module = resnet.BatchNorm()
    x = jnp.array([[1.0], [3.0]])  # mean 2, biased variance 1, unbiased 2
    made = module.init(jax.random.key(0), x, False)
    y, found = module.apply(made, x, True, mutable="batch_stats")
    np.testing.assert_allclose(y, [[-1], [1]], rtol=1e-5)
    np.testing.assert_allclose(found["batch_stats"]["mean"], [2.0])
    np.testing.assert_allclose(found["batch_stats"]["var"], [2.0])

    config = resnet.ResNetConfig("resnet8", 3)
    variables = random_variables(config, 8)
    images = jnp.asarray(RNG.integers(0, 256, (4, 8, 8, 3)))
    _, same = resnet.apply(config, *variables, images, False)
    assert same is variables.batch_stats
    _, moved = jax.jit(resnet.apply, static_argnums=(0, 4))(
        config, *variables, images, True
    )
    x = resnet.normalised(images, config)
    kernel = np.asarray(variables.params["conv_stem"]["kernel"], np.float64)
    y = conv(np.asarray(x, np.float64), kernel, 1)
    old, new = variables.batch_stats["bn_stem"], moved["bn_stem"]
    np.testing.assert_allclose(
        new["mean"], 0.9 * old["mean"] + 0.1 * y.mean((0, 1, 2)), atol=1e-5
    )
    np.testing.assert_allclose(
        new["var"], 0.9 * old["var"] + 0.1 * y.var((0, 1, 2), ddof=1), rtol=1e-4
    )


def test_a_loss_in_training_mode_does_not_see_the_running_averages():
    config = resnet.ResNetConfig("resnet8", 3)
    one, other = random_variables(config, 8), random_variables(config, 8)
    images = jnp.asarray(RNG.integers(0, 256, (4, 8, 8, 3)))
    forward = jax.jit(resnet.apply, static_argnums=(0, 4))
    logits = [
        forward(config, one.params, stats, images, True)[0]
        for stats in (one.batch_stats, other.batch_stats)
    ]
    np.testing.assert_array_equal(*logits)


def test_initial_weights_are_kaiming_fan_out():
    config = resnet.ResNetConfig("resnet18")
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    variables = init(config, jax.random.key(0), 8)
    kernel = variables.params["stage2_block0"]["conv1"]["kernel"]
    fan_out = 3 * 3 * 256
    assert float(kernel.std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.01)
    assert float(jnp.abs(variables.params["head"]["kernel"]).max()) <= 512**-0.5


def test_bfloat16_computes_coarsely_and_answers_in_float32():
    wide = resnet.ResNetConfig("resnet8", 3)
    narrow = resnet.ResNetConfig("resnet8", 3, dtype="bfloat16")
    variables = random_variables(wide, 8)
    images = jnp.asarray(RNG.integers(0, 256, (2, 8, 8, 3)))
    forward = jax.jit(resnet.predict, static_argnums=0)
    logits = forward(narrow, variables, images)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(
        logits, forward(wide, variables, images), rtol=0.1, atol=0.1
    )


def test_wrong_use_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"'vgg'.*choose one of resnet18"):
        resnet.ResNetConfig("vgg")
    with pytest.raises(ValueError, match="at least 2"):
        resnet.ResNetConfig(num_classes=1)
    with pytest.raises(ValueError, match="one entry per channel"):
        resnet.ResNetConfig(mean=(0.5,))
    config = resnet.ResNetConfig("resnet8")
    variables = random_variables(config, 8)
    with pytest.raises(ValueError, match=r"\(B, H, W, 3\)"):
        resnet.predict(config, variables, jnp.zeros((1, 8, 8, 1)))
