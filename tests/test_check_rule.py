"""Our rules keep the contract; rules that break it are told where and how."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import zoo

import retrograde as rg
from retrograde.rules import AbstractOnlineRule, AbstractRule
from retrograde.testing import ContractError, check_rule
from retrograde.unroll import unroll

# One of each kind: exact; with two forms; random; with parameters of its own; no transposition. All of them are slow.
KINDS = ["bptt", "e_prop", "uoro", "dni", "weight_perturbation"]
OURS = {name: make() for name, make in rg.rules.RULES.items()} | {
    "bptt_checkpointed": rg.rules.BPTT(checkpoint=True),
    "truncated_bptt_sliding": rg.rules.TruncatedBPTT(3, sliding=True),
    "e_prop_forward": rg.rules.EProp("forward", feedback="adaptive"),
    "snap_2": rg.rules.SnAp(2),
}


@pytest.fixture(scope="module")
def plain():
    """Plain weights, no noise, a bias that is frozen: cheap to compile, and the same for all, so compiled once."""
    hidden = rg.neurons.LeakyRate(3, "tanh", alpha=0.4)
    keys = jr.split(jr.key(0), 3)
    return rg.Network(
        {"hidden": hidden, "readout": rg.neurons.Linear(2)},
        [
            rg.Projection("input", "hidden", rg.synapses.Dense(jr.normal(keys[0], (3, 2)))),
            rg.Projection("hidden", "hidden", rg.synapses.Dense(0.6 * jr.normal(keys[1], (3, 3))), delay=1),
            rg.Projection("bias", "hidden", rg.synapses.Dense(jnp.full((3, 1), 0.2)), frozen=True),
            rg.Projection("hidden", "readout", rg.synapses.Dense(jr.normal(keys[2], (2, 3)))),
        ],
        inputs=2,
        readout="readout",
    )


@pytest.mark.parametrize("rule", KINDS)
def test_our_rules_keep_the_contract(rule, plain):
    check_rule(OURS[rule], plain)


@pytest.mark.slow
@pytest.mark.parametrize("rule", OURS)
def test_our_rules_keep_the_contract_on_all_networks(rule):
    check_rule(OURS[rule])


@pytest.mark.slow
@pytest.mark.parametrize("graph", ["two_layers", "loop"])
def test_a_network_of_ones_own(graph):
    check_rule(rg.rules.EProp(), zoo.GRAPHS[graph]("lif", "spike_and_slab", jr.key(0)))


# ---------------------------------------------------------------- one broken rule for each message


class Backward(AbstractRule):
    """A right rule; the broken ones differ in one thing."""

    def unroll(self, network, *args, **options):
        return unroll(network, *args, credit="blocked", **options)


def broken(**members):
    """`Backward` with some members replaced, called `Broken`."""
    return type("Broken", (Backward,), members)()


def with_outputs(change):
    """A transposition that changes the outputs."""

    def changed(self, network, *args, **options):
        run = unroll(network, *args, credit="blocked", **options)
        return dataclasses.replace(run, outputs=change(run.outputs, network))

    return broken(unroll=changed)


def answering(change):
    """A rule that changes what `value_and_grad` returns."""

    def value_and_grad(self, objective, network, *, rule_state=None, key):
        answer = Backward.value_and_grad(self, objective, network, rule_state=rule_state, key=key)
        return change(*answer, key)

    return broken(value_and_grad=value_and_grad, init=lambda self, network: jnp.zeros(2))


def with_gradient(change):
    """A rule that changes its gradient."""
    return answering(lambda value, gradient, state, key: (value, change(gradient, key), state))


def weight(name):
    return lambda network: network.projections[name].synapse.weight


def on(name, change):
    """A rule that changes the gradient of one weight matrix."""
    where = weight(name)
    return with_gradient(lambda gradient, key: eqx.tree_at(where, gradient, change(where(gradient))))


def reprepared(change):
    return broken(prepare=lambda self, network, *, key: change(network))


def refuse(self, network, *args, **options):
    raise ValueError("`Broken` is for networks of another kind.")


def double_credit(outputs, network):
    return 2 * outputs - jax.lax.stop_gradient(outputs)


def wearing_out(value, gradient, state, key):
    return value, jax.tree.map(lambda leaf: leaf / (1 - state[0]), gradient), state + 1


class Listed(Backward):
    sizes: Any = eqx.field(static=True, default=(1, 2))


class Tabled(Backward):
    table: Any = None


class Online(AbstractOnlineRule):
    """Credit for the present step only; the broken ones differ in one thing."""

    def begin(self, network, moments, now):
        return jnp.zeros(2)

    def push(self, network, moments, at, memory, learnt, key):
        return memory, learnt

    def contract(self, network, moments, at, memory, credit, learnt):
        nothing = jax.tree.map(jnp.zeros_like, at.after.memory)
        _, currents, neurons = at.pull(nothing, rg.rules.all_credit(network, at, credit))
        return rg.rules.direct(network, moments, at, currents, neurons), memory, learnt


class Forgetful(Online):
    def push(self, network, moments, at, memory, learnt, key):
        return memory[0], learnt


class OtherBackwards(Online):
    def unroll(self, network, *args, **options):
        return unroll(network, *args, credit="open", **options)


numbers = np.random.default_rng(0)

BROKEN = {
    "no_rule": (lambda: object(), r"`object` is not a rule: derive it from `retrograde.rules.AbstractRule`"),
    "static_list": (lambda: Listed([1, 2]), r"static field `Listed.sizes` is \[1, 2\], which cannot be hashed"),
    "unhashable_leaf": (lambda: Tabled({1, 2}), r"`Tabled.table` is {1, 2}, which is neither an array nor hashable"),
    "refuses": (lambda: broken(unroll=refuse), r"`Broken` refuses every network.*On the given network: .*another kind"),
    "fails": (
        lambda: broken(unroll=lambda self, network, *args, **options: network.no_such_thing),
        r"`Broken.value_and_grad` on the given network fails: AttributeError: .*no_such_thing",
    ),
    "prepare_type": (lambda: reprepared(lambda network: None), r"`Broken.prepare` must return the network.*NoneType"),
    "prepare_weights": (
        lambda: reprepared(lambda network: eqx.tree_at(weight("hidden->hidden"), network, jnp.eye(3))),
        r"`Broken.prepare` changes more than the feedback",
    ),
    "tuple": (
        lambda: answering(lambda value, gradient, state, key: (value, gradient)),
        r"must return `\(\(loss, aux\)",
    ),
    "outputs": (lambda: with_outputs(lambda outputs, network: 2 * outputs), r"changes the forward pass.*`outputs`"),
    "readout_steps": (
        lambda: broken(unroll=lambda self, *args, **options: unroll(*args, **{**options, "readout_steps": None})),
        r"`Broken.unroll` gives outputs of shape .*`readout_steps=4`",
    ),
    "record": (
        lambda: broken(unroll=lambda self, *args, **options: unroll(*args, **{**options, "record": ()})),
        r"`Broken.unroll` must return a `Trajectory`.*has not the same fields or populations",
    ),
    "loss": (
        lambda: answering(lambda value, gradient, state, key: ((2 * value[0], value[1]), gradient, state)),
        r"`Broken.value_and_grad` must return the objective's own loss.*here \d.*, got",
    ),
    "missing": (
        lambda: on("hidden->hidden", lambda matrix: None),
        r"has no entry for 'hidden->hidden.weight'.*zeros where there is no credit",
    ),
    "shape": (
        lambda: on("input->hidden", lambda matrix: matrix.T),
        r"for 'input->hidden.weight' .* must be an array of shape \(3, 2\) and type float64, got f64\[2,3\]",
    ),
    "dtype": (
        lambda: on("input->hidden", lambda matrix: matrix.astype(jnp.float32)),
        r"for 'input->hidden.weight' .* type float64, got f32",
    ),
    "nan": (lambda: on("input->hidden", lambda matrix: matrix * jnp.nan), r"'input->hidden.weight' is NaN or infinite"),
    "frozen": (
        lambda: on("bias->hidden", lambda matrix: matrix + 1),
        r"gives a gradient to 'bias->hidden.weight'.*which is frozen.*`network.trainable\(\)`",
    ),
    "readout": (
        lambda: with_outputs(double_credit),
        r"`Broken.unroll` does not give 'hidden->readout', .* exact gradient .*off by 1 of",
    ),
    "state_structure": (
        lambda: answering(lambda value, gradient, state, key: (value, gradient, (state, state))),
        r"returns a `rule_state` that differs from `Broken.init`.*A loop over updates carries it",
    ),
    "state_nan": (
        lambda: answering(lambda value, gradient, state, key: (value, gradient, jnp.log(state - 1))),
        r"returns a `rule_state` that is not finite",
    ),
    "second_update": (lambda: answering(wearing_out), r"is no longer finite in a second update"),
    "numpy_random": (
        lambda: on("hidden->hidden", lambda matrix: matrix * numbers.uniform()),
        r"gives another gradient when asked again with the same key: draw all randomness from `key`",
    ),
    "other_when_compiled": (
        lambda: on("hidden->hidden", lambda matrix: matrix * (2.0 if isinstance(matrix, jax.core.Tracer) else 1.0)),
        r"gives another gradient when it is compiled",
    ),
    "numbered": (
        lambda: on("hidden->hidden", lambda matrix: matrix * jnp.arange(3.0)[:, None]),
        r"treats neurons by their number: with the neurons of 'hidden' in another order",
    ),
    "memory": (
        lambda: Forgetful(),
        r"`Forgetful.push` returns a memory of another structure, shape or type than `Forgetful.begin`",
    ),
    "stream": (lambda: OtherBackwards(), r"The gradients of `OtherBackwards`'s stream do not add up"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_told_what_to_mend(case, plain):
    build, message = BROKEN[case]
    with pytest.raises(ContractError, match="(?s)" + message):
        check_rule(build(), plain)


def test_the_rules_that_the_broken_ones_derive_from_are_right(plain):
    check_rule(Backward(), plain)
    check_rule(Online(), plain)
