"""Two models small enough to compute by hand, and their losses in plain NumPy."""

import jax.numpy as jnp
import numpy as np

# A "model" whose parameters are its logits: two sequences, four positions, V = 3.
PROBABILITIES = np.array(
    [
        [[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [1, 1, 1]],
        [[0.25, 0.5, 0.25], [0.6, 0.3, 0.1], [0.3, 0.3, 0.4], [1, 1, 1]],
    ]
)
LOGITS = np.log(PROBABILITIES)
LABELS = np.array([[-100, 0, 1, 2], [-100, -100, -100, 1]])
BATCH = {
    "input_ids": np.zeros((2, 4), np.int32),
    "attention_mask": np.ones((2, 4), np.int32),
    "labels": LABELS,
}
NLL = np.array([-np.log(0.5 * 0.7 * 0.8), -np.log(0.3)])  # summed, of 3 and 1 tokens
PARAMS = jnp.asarray(LOGITS, jnp.float32)


def apply(params, input_ids, attention_mask):
    del input_ids, attention_mask
    return params


# A bigram model: row v of its table are the logits of what follows token v, V = 4.
_INITIAL = np.random.default_rng(0).normal(size=(4, 4))
TABLE = {"table": _INITIAL}
FORGET = {
    "input_ids": np.array([[0, 1, 2, 3], [2, 2, 1, 0]]),
    "attention_mask": np.ones((2, 4), np.int32),
    "labels": np.array([[-100, 1, 2, 3], [-100, -100, 1, 0]]),
}
RETAIN = {
    "input_ids": np.array([[3, 1, 0, 2], [1, 3, 3, 2]]),
    "attention_mask": np.ones((2, 4), np.int32),
    "labels": np.array([[-100, -100, 0, 2], [-100, 3, 3, 2]]),
}
REFUSAL = {
    "input_ids": np.array([[0, 3, 3], [2, 3, 1]]),
    "attention_mask": np.ones((2, 3), np.int32),
    "labels": np.array([[-100, 3, 3], [-100, 3, 1]]),
}


def bigram(params, input_ids, attention_mask):
    """Logits, or hidden states with D = 4: the rows of the table."""
    del attention_mask
    return params["table"][input_ids]


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def log_probs(table, batch):
    """For each sequence the log-probabilities of its scored tokens."""
    rows = []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        log_p = log_softmax(table)
        pairs = zip(ids[:-1], labels[1:], strict=True)
        rows.append(np.array([log_p[i, y] for i, y in pairs if y != -100]))
    return rows


def sums(table, batch):
    """Summed NLL of each sequence."""
    return np.array([-row.sum() for row in log_probs(table, batch)])


def mean_nll(table, batch):
    return -np.concatenate(log_probs(table, batch)).mean()


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


def numeric_gradient(loss, table, step=1e-5):
    """Central differences of a loss of the table."""
    gradient = np.zeros_like(table)
    for index in np.ndindex(table.shape):
        ahead, behind = table.copy(), table.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (loss(ahead) - loss(behind)) / (2 * step)
    return gradient
