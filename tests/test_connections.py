"""What is read off a trained network: choices, and what its connections are worth."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import retrograde as rg
from retrograde import analysis, plots
from retrograde.analysis import Psychometric


@given(st.floats(9.5, 15.5), st.floats(0.3, 5.0))
def test_the_curve_that_made_the_shares_is_found(boundary, spread):
    rates = np.arange(9.0, 17.0)
    shares = Psychometric(boundary, spread)(rates)
    found = analysis.fit_psychometric(rates[::-1], shares[::-1])
    assert found.boundary == pytest.approx(boundary, abs=1e-4)
    assert found.spread == pytest.approx(spread, rel=1e-3)


def test_a_step_has_the_finest_spread_that_the_stimuli_can_tell():
    found = analysis.fit_psychometric(np.arange(6.0), np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]))
    assert 2.0 < found.boundary < 3.0
    assert found.spread < 0.3


@pytest.mark.parametrize(
    ("stimuli", "shares", "message"),
    [
        ([1.0, 2.0], [0.0, 1.0], "three stimuli or more"),
        ([1.0, 1.0, 2.0], [0.0, 0.0, 1.0], "three stimuli or more"),
        ([1.0, 2.0, 3.0], [0.0, 0.5, 1.2], "between 0 and 1"),
        ([1.0, 2.0, 3.0], [0.0, np.nan, 1.0], "between 0 and 1"),
    ],
)
def test_shares_that_make_no_sense_are_refused(stimuli, shares, message):
    with pytest.raises(ValueError, match=message):
        analysis.fit_psychometric(np.array(stimuli), np.array(shares))


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=4))
def test_more_cues_are_never_worse(spreads):
    together = analysis.combined_spread(*spreads)
    assert together <= min(spreads) * (1 + 1e-12)
    assert together**-2 == pytest.approx(sum(spread**-2 for spread in spreads))


def network_of(synapse):
    task = rg.tasks.DelayedRecall(symbols=2, delay=2)
    return rg.Network.single_layer(task, rg.neurons.LeakyRate(6), synapse=synapse, key=jr.key(0))


@pytest.mark.parametrize("synapse", [rg.synapses.Dense, rg.synapses.SpikeAndSlab])
def test_removed_connections_carry_nothing_and_others_all(synapse):
    network, mask = network_of(synapse), np.arange(36).reshape(6, 6) % 3 == 0
    less = analysis.remove_connections(network, "hidden->hidden", mask)
    before, after = (n.moments()["hidden->hidden"] for n in (network, less))
    assert (np.asarray(after.mean)[mask] == 0).all()
    assert (np.asarray(after.mean)[~mask] == np.asarray(before.mean)[~mask]).all()
    if before.variance is not None:
        assert (np.asarray(after.variance)[mask] == 0).all()
        assert (np.asarray(after.variance)[~mask] == np.asarray(before.variance)[~mask]).all()
    none = analysis.remove_connections(network, "hidden->hidden", np.zeros((6, 6), bool))
    inputs = jr.normal(jr.key(1), (5, 3, network.inputs))
    assert (none(inputs, key=jr.key(2)).outputs == network(inputs, key=jr.key(2)).outputs).all()
    assert (less(inputs, key=jr.key(2)).outputs != network(inputs, key=jr.key(2)).outputs).any()
    twice = analysis.remove_connections(less, "hidden->hidden", ~mask)
    assert (twice.moments()["hidden->hidden"].mean == 0).all()


def test_removal_of_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no projection 'hidden->output'; there are input->hidden"):
        analysis.remove_connections(network_of(rg.synapses.Dense), "hidden->output", np.ones((6, 6), bool))
    with pytest.raises(ValueError, match="must be boolean of shape"):
        analysis.remove_connections(network_of(rg.synapses.Dense), "hidden->hidden", np.ones((6, 5), bool))
    with pytest.raises(ValueError, match="nothing to remove: the set 'none' is empty"):
        analysis.removal_curves(
            network_of(rg.synapses.Dense),
            "hidden->hidden",
            {"none": np.zeros((6, 6), bool)},
            lambda network, key: 0.0,
            key=jr.key(0),
        )


@given(st.integers(0, 40), st.integers(0, 2**31))
def test_choice_is_of_the_set_and_even(count, seed):
    among = np.arange(36).reshape(6, 6) % 4 == 1
    chosen = analysis.choose_connections(among, count, jr.key(seed))
    assert chosen.sum() == min(count, among.sum())
    assert not (chosen & ~among).any()
    ranked = np.arange(36.0).reshape(6, 6)
    first = analysis.choose_connections(ranked, count, jr.key(seed))
    assert first.sum() == min(count, 36)
    assert not first.any() or ranked[first].min() == 36 - min(count, 36)


def test_every_connection_is_as_likely_to_be_chosen():
    """4,000 draws of 3 among 9: each within 5 standard errors of a third."""
    among = np.arange(36).reshape(6, 6) % 4 == 1
    keys = jr.split(jr.key(0), 4000)
    share = np.mean([analysis.choose_connections(among, 3, key) for key in keys], axis=0)[among]
    assert np.abs(share - 1 / 3).max() < 5 * (2 / 9 / 4000) ** 0.5


def test_curves_say_what_the_network_scored_without_them():
    """The score counts what is left: so each curve is known."""
    network = network_of(rg.synapses.Dense)
    some = np.zeros((6, 6), bool)
    some[0] = True
    size = np.abs(np.asarray(network.moments()["hidden->hidden"].mean))
    sets = {"some": some, "all": np.ones((6, 6), bool), "size": size}

    def left(network, key):
        return float((network.moments()["hidden->hidden"].mean != 0).sum())

    found = analysis.removal_curves(network, "hidden->hidden", sets, left, key=jr.key(0), repeats=2)
    assert found.size == 6
    wanted = 36 - np.round(6 * found.fractions)
    for name in sets:
        assert (found.scores[name] == wanted[:, None]).all()
    more = analysis.removal_curves(network, "hidden->hidden", sets, left, key=jr.key(0), count=12, fractions=(1.0,))
    assert [more.scores[name].item() for name in sets] == [30.0, 24.0, 24.0]


@given(st.integers(2, 30), st.floats(0.1, 10.0))
def test_half_way_of_a_straight_line_is_its_middle(points, slope):
    steps = np.arange(points)
    assert analysis.half_way(steps, 3.0 - slope * steps) == pytest.approx((points - 1) / 2)
    assert np.isnan(analysis.half_way(steps, np.ones(points)))


def test_drawings_carry_what_they_are_given():
    figure = Figure()
    score = np.array([[1.0, 0.5, 0.0], [1.0, 0.6, 0.2]])
    ax = plots.plot_removal(
        np.array([0.0, 0.5, 1.0]), {"a": score, "b": score}, ylabel="x (%)", chance=0.1, ax=figure.add_subplot()
    )
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.lines[0].get_ydata() == pytest.approx([1.0, 0.55, 0.1])
    shares = np.array([[0.6, 0.3, 0.1]])
    ax = plots.plot_variance({"a": shares}, line=0.85, ax=figure.add_subplot())
    assert ax.lines[0].get_ydata() == pytest.approx([60.0, 90.0, 100.0])
    path = np.arange(4 * 3 * 3.0).reshape(4, 3, 3)
    space = plots.plot_trajectories(path, ["one", "two", "one"], ax=figure.add_subplot(projection="3d"))
    assert len(space.lines) == 3
    assert space.lines[0].get_color() == space.lines[1].get_color() != space.lines[2].get_color()
    rates = np.arange(9.0, 17.0)
    shares = Psychometric(12.5, 1.0)(rates)[None]
    ax = plots.plot_psychometric(
        rates,
        {"seen": shares},
        fits={"seen": Psychometric(12.5, 1.0)},
        boundary=12.5,
        xlabel="rate",
        ax=figure.add_subplot(),
    )
    assert ax.lines[1].get_ydata()[[0, -1]] == pytest.approx(100 * shares[0, [0, -1]])


# --- the networks of Zou, Li & Huang (2023) ---


@eqx.filter_jit
def pass_of(rule, network, inputs, key):
    return network(inputs, rule=rule, key=key).outputs


def fluctuating(kind, gain=1.0):
    from retrograde.papers.zou2023._plasticity import FluctuatingBPTT

    return FluctuatingBPTT(kind=kind, gain=gain)


def test_other_fluctuations_have_the_moments_of_the_mean_field():
    """Of the first step's currents, over 3,000 passes: each kind has the mean field's mean and variance there."""
    network = network_of(rg.synapses.SpikeAndSlab)
    inputs = jr.normal(jr.key(3), (2, 1, network.inputs))
    keys = jr.split(jr.key(4), 3000)

    def draws(rule):
        return np.asarray(
            jax.lax.map(lambda key: network(inputs, rule=rule, key=key).outputs[0, 0], keys, batch_size=500)
        )

    plain = draws(rg.rules.BPTT())
    assert (draws(fluctuating("annealed")) == plain).all()
    for kind in ("shared", "quenched"):
        other = draws(fluctuating(kind))
        error = np.sqrt(plain.var(0) / 1500)
        assert (np.abs(other.mean(0) - plain.mean(0)) < 5 * error).all()
        assert np.allclose(other.std(0), plain.std(0), rtol=0.15)
    off = draws(fluctuating("off"))
    assert (off == off[0]).all()
    still = np.asarray(network(inputs, weights="mean").outputs[0, 0])
    assert np.allclose(off[0], still, rtol=1e-12)
    loud, quiet = (draws(fluctuating("annealed", gain)).std(0) for gain in (2.0, 0.5))
    assert (loud > plain.std(0)).all()
    assert (quiet < plain.std(0)).all()


def test_time_shared_noise_is_the_same_in_every_step_and_differs_between_trials():
    linear = rg.neurons.LeakyRate(4, "identity")
    zero = jnp.zeros((4, 4))
    slab = rg.synapses.SpikeAndSlab(zero, zero, zero + 1.0)
    network = rg.Network(
        {"hidden": linear},
        [rg.Projection("input", "hidden", slab)],
        inputs=4,
        readout="hidden",
    )
    inputs = jnp.ones((5, 3, 4))
    shared = pass_of(fluctuating("shared"), network, inputs, jr.key(0))
    assert (shared == shared[:1]).all()
    assert len(np.unique(np.asarray(shared[0]))) == 12
    quenched = pass_of(fluctuating("quenched"), network, inputs, jr.key(0))
    assert jnp.allclose(quenched, quenched[:1, :1], rtol=1e-12)
    annealed = pass_of(fluctuating("annealed"), network, inputs, jr.key(0))
    assert len(np.unique(np.asarray(annealed))) == 60


@pytest.mark.parametrize("kind", ["annealed", "shared", "quenched"])
def test_gradients_through_other_fluctuations_are_differences(kind):
    """By central differences in m, π and Ξ."""
    network = network_of(rg.synapses.SpikeAndSlab)
    network = eqx.tree_at(lambda n: n.projections["hidden->hidden"].synapse.pi, network, replace_fn=lambda pi: pi + 0.3)
    inputs, rule = jr.normal(jr.key(1), (4, 2, network.inputs)), fluctuating(kind, 0.7)
    params, rest = eqx.partition(network, network.trainable())

    @jax.jit
    def loss(params):
        return jnp.sum(jnp.sin(eqx.combine(params, rest)(inputs, rule=rule, key=jr.key(2)).outputs))

    slope = jax.grad(loss)(params)
    direction = jax.tree.map(lambda p: jr.normal(jr.key(p.size), p.shape), params)
    ahead, behind = (loss(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (1e-7, -1e-7))
    wanted = sum(jnp.sum(s * d) for s, d in zip(*map(jax.tree.leaves, (slope, direction)), strict=True))
    assert float((ahead - behind) / 2e-7) == pytest.approx(float(wanted), rel=1e-6)


def test_multisensory_network_is_wired_as_in_the_paper():
    from retrograde.papers.zou2023 import _multisensory as multisensory

    network = multisensory.ensemble(jr.key(0))
    reads = np.asarray(network.moments()["input->hidden"].mean) != 0
    assert (reads[:50] == [False, True, False, True, True]).all()  # auditory and cue
    assert (reads[50:100] == [True, False, True, False, True]).all()  # visual and cue
    assert (reads[100:] == [False, False, False, False, True]).all()
    assert multisensory.at_step(network, 0.5).populations["hidden"].alpha == 0.005
    slope = eqx.filter_grad(multisensory.penalty)(network)
    for name in ("hidden->hidden", "hidden->readout"):
        synapse, found = (n.projections[name].synapse for n in (network, slope))
        assert jnp.allclose(found.m, 1e-3 * synapse.m, rtol=1e-12)
        assert jnp.allclose(found.xi, 1e-3 * synapse.xi, rtol=1e-12)
        assert (found.pi == 0).all()


def test_multisensory_loss_is_that_of_the_papers_programs():
    """Half the masked squared error over all steps and trials: 0.328 of ours, which is over those that count."""
    from retrograde.papers.zou2023 import _multisensory as multisensory

    task = rg.tasks.Multisensory()
    trials = task.sample(jr.key(0), task.round)
    outputs = jr.normal(jr.key(1), trials.targets.shape)
    share = float(trials.mask.mean())
    assert share == pytest.approx((24 * 20 + 6 * 125) / 3750)
    ours = float(rg.losses.half_squared_error(outputs, trials))
    assert float(multisensory.half_error(outputs, trials)) == pytest.approx(share * ours, rel=1e-12)
