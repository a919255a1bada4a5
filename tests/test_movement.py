"""e-prop with learning signals from a network that has learnt to teach (Bellec et al. 2019, e-prop 2), in float64."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

from retrograde.papers._lab import Lab
from retrograde.papers.bellec2020 import _movement as movement
from retrograde.rules import EProp

SETTING = movement.Setting(neurons=5, teachers=4, code=3, steps=30, batch=2, inner=1.0)
NAMES = ("input->hidden", "hidden->hidden")


@eqx.filter_jit
def run(network, inputs):
    return network(inputs, record=("hidden",)).activity["hidden"]


@pytest.fixture(scope="module")
def case():
    """A network, its inputs, what it does, and learning signals."""
    network = movement.spiking(jr.key(0), movement.CLOCK, SETTING.neurons, 2, 0.05)
    inputs = (jr.uniform(jr.key(1), (SETTING.steps, 2, movement.CLOCK)) < 0.2).astype(float)
    spikes = run(network, inputs)
    assert spikes.sum() > 20
    return network, inputs, spikes, jr.normal(jr.key(2), spikes.shape)


def test_the_inner_update_is_e_prop_of_given_learning_signals(case):
    """Without a refractory period, in which the authors' surrogate is not 0; and times the threshold."""
    network, inputs, _, signals = case
    cell = dataclasses.replace(network.populations["hidden"], refractory=0, detach_reset=True)
    network = eqx.tree_at(lambda n: n.populations["hidden"], network, cell)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        return jnp.sum(signals * network(inputs, rule=EProp(), record=("hidden",)).activity["hidden"])

    spikes = run(network, inputs)
    found, expected = eqx.filter_jit(movement.changes)(network, inputs, spikes, signals), gradient(network).projections
    for name, change in zip(NAMES, found, strict=True):
        (wanted,) = jax.tree.leaves(expected[name].synapse)
        assert jnp.abs(wanted).max() > 0.1
        assert jnp.abs(change.sum(0) - 0.4 * wanted).max() < 1e-12


def test_the_inner_update_can_be_differentiated_again(case):
    """By signals, weights and what was transmitted; against finite differences."""
    network, inputs, spikes, signals = case
    params, rest = eqx.partition(network, network.trainable())
    flat, build = ravel_pytree((params, inputs, spikes, signals))
    weights = jr.normal(jr.key(3), (2, 5, movement.CLOCK)), jr.normal(jr.key(4), (2, 5, 5))

    @jax.jit
    def value(flat):
        params, inputs, spikes, signals = build(flat)
        found = movement.changes(eqx.combine(params, rest), inputs, spikes, signals)
        return sum(jnp.sum(w * change) for w, change in zip(weights, found, strict=True))

    slope = jax.jit(jax.grad(value))(flat)
    for seed in range(4):
        direction = jr.normal(jr.key(seed), flat.shape)
        numeric = (value(flat + 1e-6 * direction) - value(flat - 1e-6 * direction)) / 2e-6
        assert jnp.isclose(numeric, slope @ direction, rtol=1e-6)


def test_movements_stay_within_reach_and_the_arm_follows_its_joints():
    wanted = jax.jit(movement.movements, static_argnums=(1, 2))(jr.key(0), 50, 500)
    turned = jnp.cumsum(wanted.speed, axis=0) / 1000
    assert jnp.abs(turned).max() <= np.pi / 2 + 1e-9
    assert (jnp.abs(turned).max((0, 2)) > 0.5).all()
    # By hand: a quarter turn of the first joint moves the arm from pointing up and right to up and left.
    speed = jnp.zeros((500, 1, 2)).at[:, 0, 0].set(np.pi)
    assert jnp.allclose(movement.end_point(speed)[-1, 0], jnp.array([-0.5, 0.5]))
    assert jnp.allclose(movement.end_point(0 * speed)[-1, 0], jnp.array([0.5, 0.5]))


def test_the_clock():
    ticks = movement.clock(500)
    assert ticks.shape == (500, 10) and ticks.sum(0).tolist() == [10] * 10
    assert [int(jnp.argmax(channel)) for channel in ticks.T] == [0, 0, 100, 100, 200, 200, 300, 300, 400, 400]


@pytest.mark.slow
def test_the_study_goes_on_where_it_stopped_and_draws(tmp_path, monkeypatch):
    chosen = dataclasses.replace(SETTING, neurons=20, teachers=15, updates=4)
    whole, seen = movement.trained(Lab(tmp_path / "a", "smoke", 1), 0, chosen)
    lab = Lab(tmp_path / "b", "smoke", 1)
    movement.trained(lab, 0, dataclasses.replace(chosen, updates=2))
    again, later = movement.trained(lab, 0, chosen)
    assert eqx.tree_equal(whole, again) and np.array_equal(seen, later)
    monkeypatch.setattr(movement, "setting", lambda lab: chosen)
    found = movement.measure(lab)
    assert found.values["after"] != found.values["before"]
    figure = Figure(figsize=(8, 3.2))
    movement.draw(figure, found.arrays)
    assert len(figure.axes) == 5
