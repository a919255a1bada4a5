"""What tasks share whose trials are drawn at random, without end."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Int, Key

from retrograde.tasks._abstract import SPLITS, AbstractTask, check_split, check_trials_exist


class AbstractEndlessTask(AbstractTask):
    """A source of trials without end, each drawn at random by a key of its own.

    Each of the three splits is another series of trials. What is left to define are the numbers of inputs, outputs and
    steps, the loss, and `take`, which turns `keys` into trials.

    Attributes:
        seed: Which endless series of trials.
    """

    seed: eqx.AbstractVar[int]

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS

    def size(self, split: str = "train") -> None:
        check_split(self, split)

    def keys(self, index: Int[Array, " batch"], split: str) -> Key[Array, " batch"]:
        """Gives the keys that trials are drawn by, the same whichever generator a program uses for everything else.

        Args:
            index: Numbers of the trials, 0 or more.
            split: One of `splits`.

        Returns:
            One key for each trial; it depends on `seed`, the split and the trial's number, and on nothing else.

        Raises:
            ValueError: If there is no such split, or (where it can be seen: not while compiling) no such trial.
        """
        check_trials_exist(self, index, split)
        stream = jr.fold_in(jr.key(self.seed, impl="threefry2x32"), SPLITS.index(split))
        return jax.vmap(lambda number: jr.fold_in(stream, number))(index)
