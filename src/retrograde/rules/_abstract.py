"""The contract of a credit-assignment rule."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from ..network import Network
from ..unroll import Trajectory


class AbstractRule(eqx.Module):
    """How the unrolled network is transposed; knows nothing of loss, readout, task or optimiser.

    There are two levels. A rule that is a transposition defines `unroll`: forward it runs the network like any other
    rule, and differentiating through the call gives its credit. A rule that is none (perturbations, two-phase
    learning) overrides `value_and_grad`. The fields are the hyperparameters.

    A rule that learns parameters of its own has a field `learnt`, which `init` fills; differentiating through `unroll`
    gives their change, old minus new.
    """

    learnt = None  # not annotated: as a `ClassVar` it would be the first field of the rules that have one

    @abc.abstractmethod
    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        """Runs the network over all time steps; takes the arguments of `retrograde.unroll.unroll`."""

    def prepare(self, network: Network, *, key: Key[Array, ""]) -> Network:
        """Returns the network that this rule trains: the same forward, perhaps with other feedback."""
        return network

    def init(self, network: Network) -> PyTree:
        """Returns what the rule itself learns or remembers between updates; nothing by default."""
        return None

    def with_learnt(self, learnt: PyTree) -> "AbstractRule":
        """The same rule with other parameters of its own."""
        return eqx.tree_at(lambda rule: rule.learnt, self, learnt, is_leaf=lambda leaf: leaf is None)

    def value_and_grad(
        self,
        objective: Callable[[Network, "AbstractRule", Key[Array, ""]], tuple[Array, Any]],
        network: Network,
        *,
        rule_state: PyTree = None,
        key: Key[Array, ""],
    ) -> tuple[tuple[Array, Any], Network, PyTree]:
        """Evaluates an objective and this rule's estimate of its gradient.

        Args:
            objective: `(network, rule, key) -> (loss, aux)`; runs the network with that rule.
            network: The network; its trainable leaves are differentiated, the others may be `None` or absent.
            rule_state: What `init` or the last call returned.
            key: Seeds the pass.

        Returns:
            `((loss, aux), gradient, rule_state)`, the gradient with the structure of the network.
        """
        if rule_state is None or all(field.name != "learnt" for field in dataclasses.fields(self)):
            value, gradient = eqx.filter_value_and_grad(lambda network: objective(network, self, key), has_aux=True)(
                network
            )
            return value, gradient, rule_state

        def run(both):
            network, learnt = both
            return objective(network, self.with_learnt(learnt), key)

        value, (gradient, change) = eqx.filter_value_and_grad(run, has_aux=True)((network, rule_state))
        return value, gradient, jax.tree.map(jnp.subtract, rule_state, change)
