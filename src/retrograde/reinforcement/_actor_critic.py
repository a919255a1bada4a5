"""Actor and critic as readouts of one recurrent network, taught by any rule that runs forward in time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from retrograde.network import Network
from retrograde.reinforcement._environment import Percept
from retrograde.rules import AbstractOnlineRule, Stream


class Actor(eqx.Module):
    """One actor between two steps.

    Attributes:
        stream: Its network.
        tag: Eligibility of every parameter: past gradients of what it did and predicted, fading.
        value: What it predicted last [reward].
        is_new: Whether it has done nothing yet.
    """

    stream: Stream
    tag: PyTree
    value: Float[Array, ""]
    is_new: Bool[Array, ""]


class ActorCritic(eqx.Module):
    r"""Reward-based learning: a rule's gradient of the policy and of the value, kept as a tag until reward comes.

    The readout has one unit for each action and a last one for the value. In each step, with the softmax $\pi_t$ of the
    former, the action $a_t$ drawn from it and the value $V_t$,

    $$\begin{aligned}
      \delta_t &= r_t + \gamma V_{t+1} - V_t, \\
      u_t &= \mathrm{rule}\big(\pi_t - 1_{a_t} \text{ where there is a choice}, \; -c_V\big), \\
      F_t &= \gamma\lambda F_{t-1} + u_t, \qquad \Delta\theta \propto -\sum_t \delta_t F_t,
    \end{aligned}$$

    where rule(·) is the gradient that the rule makes of credit at the readout: with e-prop, learning signals times
    filtered eligibility traces. With $\lambda = 1$ the sum is $\sum_t (R_t - V_t) u_t$, the gradient of advantage
    actor–critic, without looking ahead.

    Attributes:
        discount: $\gamma$, per step [1].
        trace: $\lambda$ [1].
        value_weight: $c_V$ [1].
        entropy: Weight of a bonus for undecided policies where there is a choice [reward/nat].
        substeps: Steps of the network for one of the environment, with the same inputs.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, eqs 5 and 36–37 (λ = 1). Differs from it: λ, and any online rule.
    """

    discount: float = 0.99
    trace: float = 1.0
    value_weight: float = 1.0
    entropy: float = 0.0
    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`ActorCritic({name}=...)` must lie between 0 and 1, got {getattr(self, name)}.")
        for name in ("value_weight", "entropy"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`ActorCritic({name}=...)` must not be negative, got {getattr(self, name)}.")
        if self.substeps < 1:
            raise ValueError(f"`ActorCritic(substeps=...)` must be at least 1, got {self.substeps}.")

    def start(self, network: Network, rule: AbstractOnlineRule, *, key: Key[Array, ""]) -> Actor:
        """Makes an actor that has done nothing yet."""
        stream = rule.start(network, 1, key=key)
        tag = jax.tree.map(jnp.zeros_like, eqx.filter(network, network.trainable()))
        return Actor(stream, tag, jnp.zeros((), stream.inputs.dtype), jnp.array(True))

    def act(
        self,
        network: Network,
        rule: AbstractOnlineRule,
        actor: Actor,
        percept: Percept,
        reward: Float[Array, ""],
        done: Bool[Array, ""],
        *,
        key: Key[Array, ""],
    ) -> tuple[Actor, Int[Array, ""], PyTree]:
        """Learns from what the last action led to, and chooses the next one.

        Args:
            network: The network; its weights may have changed since the last step.
            rule: The rule.
            actor: The actor.
            percept: What it sees now.
            reward: Reward of its last action.
            done: Whether that action ended an episode; then network and tag begin anew.
            key: Seeds the choice, and the noise of an episode that begins.

        Returns:
            The actor, the action, and the gradient (to be descended) that the last reward makes.
        """
        choice_key, stream_key = jr.split(key)
        fresh = rule.start(network, 1, key=stream_key, dtype=actor.stream.inputs.dtype)
        stream = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, actor.stream)
        outputs: Any = None
        for _ in range(self.substeps):
            stream, outputs = rule.step(network, stream, percept.inputs[None])
        logits, value = outputs[0, :-1], outputs[0, -1]
        going_on = 1.0 - done.astype(value.dtype)
        error = reward + self.discount * going_on * value - actor.value
        error = jnp.where(actor.is_new, 0.0, error)
        gradient = jax.tree.map(lambda tag: error * tag, actor.tag)

        action = jr.categorical(choice_key, logits)
        log_policy = jax.nn.log_softmax(logits)
        policy, is_choice = jnp.exp(log_policy), percept.is_choice.astype(value.dtype)
        wrong = policy - jax.nn.one_hot(action, logits.size, dtype=value.dtype)
        credit = jnp.append(is_choice * wrong, -jnp.asarray(self.value_weight, value.dtype))
        stream, now = rule.gradient(network, stream, credit[None])
        tag = jax.tree.map(lambda old, new: self.discount * self.trace * going_on * old + new, actor.tag, now)
        if not isinstance(self.entropy, float) or self.entropy > 0:
            surprise = log_policy - jnp.sum(policy * log_policy)
            bonus = jnp.append(is_choice * self.entropy * policy * surprise, jnp.zeros((), value.dtype))
            stream, more = rule.gradient(network, stream, bonus[None])
            gradient = jax.tree.map(jnp.add, gradient, more)
        return Actor(stream, tag, value, jnp.array(False)), action, gradient
