"""The loop around a method: checks, the stopping rule, snapshots, checkpoints."""

from ofmu_jax.training.loop import Saver as Saver
from ofmu_jax.training.loop import Snapshot as Snapshot
from ofmu_jax.training.loop import run as run
from ofmu_jax.training.stopping import StoppingRule as StoppingRule
from ofmu_jax.training.stopping import Verdict as Verdict
from ofmu_jax.training.stopping import judge as judge
from ofmu_jax.training.watch import Check as Check
from ofmu_jax.training.watch import OnUpdate as OnUpdate
from ofmu_jax.training.watch import Run as Run
