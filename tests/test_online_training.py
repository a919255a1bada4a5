"""Updates inside the trial."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
import zoo

import retrograde as rg
from retrograde.rules import BPTT, DNI, RTRL

TASK = rg.tasks.Add(t1=1, t2=2, steps=6)


def network():
    return rg.Network.single_layer(TASK, rg.neurons.LeakyRate(5, alpha=0.5, leak="activity"), key=jr.key(0))


def trained(rule, update, rate=0.1, steps=2, **options):
    return rg.fit(
        network(),
        TASK,
        rule=rule,
        optimiser=optax.sgd(rate),
        steps=steps,
        batch=3,
        update=update,
        key=jr.key(1),
        **options,
    )


def change(result):
    new, old = (eqx.filter(net, eqx.is_inexact_array) for net in (result.network, network()))
    return jax.tree.map(jnp.subtract, new, old)


def test_an_update_at_the_end_of_the_trial_is_an_update_per_trial():
    for every in (TASK.steps, 100):
        assert zoo.difference(change(trained(RTRL(), every)), change(trained(BPTT(), "trial"))) < 1e-12


def test_small_steps_inside_the_trial_add_up_to_the_gradient():
    """With the learning rate the weights of the trial's end tend to those of its beginning: RTRL = BPTT for η → 0."""
    errors = []
    for rate in (1e-2, 1e-3):
        exact = change(trained(BPTT(), "trial", rate, steps=1))
        errors.append(zoo.difference(change(trained(RTRL(), "step", rate, steps=1)), exact))
    assert 0 < errors[1] < 0.2 * errors[0] < 0.02


def test_a_shorter_rest_counts_and_learning_goes_on_across_updates():
    every_four = change(trained(RTRL(), 4, steps=1))
    assert zoo.difference(every_four, change(trained(RTRL(), "trial", steps=1))) > 1e-4
    result = trained(DNI(rate=0.01), "step", steps=30, log_every=1)
    _, losses = result.history.measured("loss")
    assert losses[0, -5:].mean() < losses[0, :5].mean()


def test_a_regulariser_counts_once_per_trial():
    def regulariser(network):
        return 0.1 * jnp.sum(network.projections["hidden->hidden"].synapse.weight ** 2)

    exact = change(trained(BPTT(), "trial", steps=1, regulariser=regulariser))
    found = change(trained(RTRL(), TASK.steps, steps=1, regulariser=regulariser))
    assert zoo.difference(found, exact) < 1e-12
    assert zoo.difference(found, change(trained(BPTT(), "trial", steps=1))) > 1e-3


@pytest.mark.parametrize(
    ("rule", "update", "message"),
    [
        (BPTT(), "step", "`BPTT` knows its gradient at the end only. Rules that run forward in time: .*RTRL"),
        (RTRL(), 0, "`update=0` must be 'trial', 'step' or a number"),
        (RTRL(), "steps", "`update='steps'` must be"),
    ],
)
def test_other_updates_are_refused(rule, update, message):
    with pytest.raises(ValueError, match=message):
        trained(rule, update)
