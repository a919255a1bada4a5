"""Perturbation rules: what one draw is, exactly, and what many are on average. In float64."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import linear_task
import numpy as np
import optax
import pytest
import zoo
from jax.flatten_util import ravel_pytree

import retrograde as rg
from retrograde.rules import (
    BPTT,
    AbstractRule,
    ForwardGradient,
    HybridPerturbation,
    NodePerturbation,
    WeightPerturbation,
)
from retrograde.rules._eligibility import unroll_eligibly, with_eligibility
from retrograde.rules._perturbation import draw, perturbation_key
from retrograde.theory import LinearTask

ALL = {
    "gaussian": WeightPerturbation(1e-2),
    "sign": WeightPerturbation(1e-2, distribution="sign"),
    "one_at_a_time": WeightPerturbation(1e-2, distribution="one_at_a_time"),
    "active_only": WeightPerturbation(1e-2, active_only=True),
    "node": NodePerturbation(1e-2),
    "coloured": NodePerturbation(1e-2, correlation=2.0),
    "hybrid": HybridPerturbation(1e-2),
    "forward_gradient": ForwardGradient(),
}
every_rule = pytest.mark.parametrize("rule", ALL.values(), ids=ALL)

CASES = {
    "ports": ("single", "lstm", "dense"),
    "delays": ("two_layers", "lif", "masked"),
    "distributions": ("loop", "leaky_current", "spike_and_slab"),
}

TASK = LinearTask(outputs=2, steps=8, task_inputs=5, power=1.5, unrealisable=0.1)
WEIGHTS = jr.normal(jr.key(100), (2, 5))


def linear(weights=WEIGHTS, inputs=5):
    """A linear readout away from its optimum, and the error of one trial."""
    network = eqx.tree_at(linear_task.weight, linear_task.network(TASK, inputs), weights)
    return network, linear_task.objective(*linear_task.trial(TASK, inputs, jr.key(0)))


def recurrent(graph, neuron, synapse, regulariser=None, **options):
    """A network of the zoo, and its squared error with the same noise under every key."""
    network = zoo.GRAPHS[graph](neuron, synapse, jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))

    def objective(network, rule, key):
        outputs = network(inputs, rule=rule, key=jr.key(7), **options).outputs
        loss = jnp.sum((outputs - targets[-outputs.shape[0] :]) ** 2)
        return loss if regulariser is None else loss + regulariser(network), outputs

    return network, objective


def gradient(rule, objective, network, key=None):
    """One estimate; not compiled, which would take ten times as long as running it once."""
    estimate = rule.value_and_grad(objective, network, key=jr.key(3) if key is None else key)[1]
    return eqx.filter(estimate, network.trainable())


def sample(rule, objective, network, draws, of=lambda gradient: ravel_pytree(gradient)[0]):
    """Many estimates, `"draw ..."`; of each, what `of` says."""

    def one(key):
        return of(eqx.filter(rule.value_and_grad(objective, network, key=key)[1], network.trainable()))

    keys = jr.split(jr.key(11), (draws // 500, 500))
    estimates = jax.jit(lambda keys: jax.lax.map(jax.vmap(one), keys))(keys)
    return np.asarray(estimates).reshape(draws, -1)


def deviation(draws, expected):
    """Distance of the mean of many draws from what is expected, in standard errors, for each number."""
    expected = np.ravel(expected)
    return np.abs(draws.mean(axis=0) - expected) / (draws.std(axis=0, ddof=1) / len(draws) ** 0.5)


# --- on average


@pytest.mark.parametrize(
    "rule",
    [
        WeightPerturbation(1e-4),
        WeightPerturbation(0.7),
        WeightPerturbation(0.7, distribution="sign"),
        NodePerturbation(1e-4),
        NodePerturbation(0.7),
        NodePerturbation(0.7, central=True),
    ],
    ids=["weight_small", "weight", "sign", "node_small", "node", "node_central"],
)
def test_the_mean_over_draws_is_the_gradient_of_a_quadratic_error(rule):
    network, objective = linear()
    exact = linear_task.weight(gradient(BPTT(), objective, network))
    draws = sample(rule, objective, network, 100_000)
    assert deviation(draws, exact).max() < 3.5
    assert (draws.std(axis=0) / len(draws) ** 0.5).max() < 0.05 * jnp.abs(exact).max()  # else anything would pass


def test_the_mean_of_the_hybrid_is_the_gradient_weighed_by_the_inputs_correlations():
    strengths = jnp.diag(jnp.array([1.0, 2.0, 0.5, 1.0, 1.5]))
    network, _ = linear()
    inputs, targets = linear_task.trial(TASK, 5, jr.key(0))
    objective = linear_task.objective(inputs @ strengths, targets)
    exact = linear_task.weight(gradient(BPTT(), objective, network))
    correlations = jnp.einsum("tbi,tbj->ij", inputs @ strengths, inputs @ strengths)
    for sigma in (1e-4, 0.7):
        draws = sample(HybridPerturbation(sigma), objective, network, 50_000)
        assert deviation(draws, exact @ correlations).max() < 3.5
        assert deviation(draws, exact * TASK.steps * TASK.power).max() > 20


def test_weight_perturbation_follows_the_smoothed_loss():
    """Mean of the estimate at `sigma` = mean gradient under Gaussian noise of that size on the weights (Stein)."""
    network, _ = linear()
    inputs, _ = linear_task.trial(TASK, 5, jr.key(0))

    def objective(network, rule, key):
        return jnp.mean(jnp.sin(network(inputs, rule=rule).outputs)), None

    flat, build = ravel_pytree(eqx.filter(network, network.trainable()))
    rest = eqx.filter(network, network.trainable(), inverse=True)
    sigma = 0.3  # large: where the loss bends, its gradient at one point is another

    def slope(key):
        moved = build(flat + sigma * jr.normal(key, flat.shape))
        return ravel_pytree(jax.grad(lambda p: objective(eqx.combine(p, rest), None, key)[0])(moved))[0]

    draws = sample(WeightPerturbation(sigma), objective, network, 100_000)
    keys = jr.split(jr.key(12), (20, 500))
    smoothed = np.asarray(jax.jit(lambda keys: jax.lax.map(jax.vmap(slope), keys))(keys)).reshape(-1, flat.size)
    error = np.hypot(draws.std(0) / len(draws) ** 0.5, smoothed.std(0) / len(smoothed) ** 0.5)
    exact = ravel_pytree(gradient(BPTT(), objective, network))[0]
    assert (np.abs(draws.mean(0) - smoothed.mean(0)) / error).max() < 3.5
    assert (np.abs(draws.mean(0) - exact) / error).max() > 10


@pytest.mark.slow  # the quick test of it, below, puts the credit of BPTT in place of noise
def test_the_mean_of_node_perturbation_is_bptt_on_a_recurrent_network_of_distributions():
    """Along the gradient of all means, odds and variances, so that a factor lost in one of them would show."""
    network, objective = recurrent("loop", "leaky_current", "spike_and_slab")
    exact = gradient(BPTT(), objective, network)

    def along(estimate):
        def whole(gradient, field):
            return jnp.concatenate([getattr(p.synapse, field).ravel() for p in gradient.projections.values()])

        pairs = [(whole(estimate, field), whole(exact, field)) for field in ("m", "pi", "xi")]
        return jnp.stack([(a @ b) / (b @ b) for a, b in pairs])

    draws = sample(NodePerturbation(1e-5), objective, network, 20_000, along)
    assert deviation(draws, np.ones(3)).max() < 3.5
    assert (draws.std(axis=0) / len(draws) ** 0.5).max() < 0.1


def test_rating_each_trial_by_itself_is_unbiased_and_of_less_variance():
    """The noise of the other trials of a batch adds nothing but variance, in proportion to their number."""
    task, trials = rg.tasks.DelayedRecall(symbols=2, delay=1), 12
    network = rg.Network.single_layer(task, rg.neurons.LeakyRate(3, alpha=0.5), key=jr.key(0))
    batch = task.sample(jr.key(1), trials)

    def objective(network, rule, key):
        outputs = network(batch.inputs, rule=rule, readout_steps=task.target_steps).outputs
        return rg.losses.cross_entropy(outputs, batch), None

    exact = ravel_pytree(gradient(BPTT(), objective, network))[0]
    alone, together = (
        sample(NodePerturbation(1e-4, per_trial=per_trial), objective, network, 20_000) for per_trial in (True, False)
    )
    assert deviation(alone, exact).max() < 4
    assert deviation(together, exact).max() < 4
    assert 0.5 * trials < together.var(axis=0).sum() / alone.var(axis=0).sum() < 2 * trials


def test_one_draw_rates_the_noise_of_each_trial_by_its_own_loss():
    network, _ = linear()
    inputs, targets = (
        jnp.concatenate(parts, axis=1)
        for parts in zip(*[linear_task.trial(TASK, 5, jr.key(k)) for k in range(3)], strict=True)
    )
    seen = []

    def objective(network, rule, key):
        outputs = network(inputs, rule=rule, key=key).outputs
        jax.debug.callback(seen.append, outputs)
        return 0.5 * jnp.mean((outputs - targets) ** 2) + jnp.sum(linear_task.weight(network) ** 2), None

    estimate = linear_task.weight(gradient(NodePerturbation(0.1), objective, network))
    jax.effects_barrier()
    quiet = inputs @ linear_task.weight(network).T
    loudest = max(
        (np.asarray(outputs) for outputs in seen), key=lambda outputs: (np.abs(outputs - quiet) > 1e-12).sum()
    )
    noise = loudest - quiet
    assert (np.abs(noise).max(axis=(0, 2)) > 0.01).all(), "all trials have noise at once in one run"
    rise = 0.5 * (jnp.sum((loudest - targets) ** 2 - (quiet - targets) ** 2, axis=(0, 2))) / targets.size
    expected = jnp.einsum("b,tbi,tbj->ij", rise, noise, inputs) / 0.1**2 + 2 * linear_task.weight(network)
    assert jnp.allclose(estimate, expected, rtol=1e-9)


def test_correlated_noise_shares_credit_over_time():
    network, objective = linear()
    inputs, targets = linear_task.trial(TASK, 5, jr.key(0))
    credit = (inputs @ WEIGHTS.T - targets) / TASK.steps
    rho = np.exp(-1 / 3.0)
    time = np.arange(TASK.steps)
    covariance = rho ** np.abs(time[:, None] - time[None])
    expected = (1 - rho) / (1 + rho) * jnp.einsum("tbi,ts,sbj->ij", credit, covariance, inputs)
    for sigma in (1e-4, 0.7):
        draws = sample(NodePerturbation(sigma, correlation=3.0), objective, network, 50_000)
        assert deviation(draws, expected).max() < 3.5
        assert deviation(draws, jnp.einsum("tbi,tbj->ij", credit, inputs)).max() > 20


def test_random_signs_have_as_many_times_the_gradients_power_as_there_are_weights():
    network, objective = linear()
    exact = linear_task.weight(gradient(BPTT(), objective, network))
    rule = WeightPerturbation(1e-6, distribution="sign")
    power = (sample(rule, objective, network, 200_000) ** 2).sum(axis=1).mean()
    assert power / jnp.sum(exact**2) == pytest.approx(WEIGHTS.size, rel=0.01)


# --- one draw


@pytest.mark.parametrize(("graph", "neuron", "synapse"), CASES.values(), ids=CASES)
def test_eligibility_for_the_credit_of_bptt_is_the_gradient(graph, neuron, synapse):
    """What node perturbation does with its noise: here with the credit of every current in place of it."""
    network, objective = recurrent(graph, neuron, synapse)
    inputs, targets = zoo.trial(jr.key(1))

    params, rest = eqx.partition(network, network.trainable())

    def loss(params, drive):
        outputs = eqx.combine(params, rest)(inputs, rule=BPTT(), key=jr.key(7), drive=drive).outputs
        return jnp.sum((outputs - targets) ** 2)

    @jax.jit
    def both(params, drive):
        expected, credit = jax.grad(loss, argnums=(0, 1))(params, drive)

        class Credited(AbstractRule):
            answered: Callable[[], None]

            def unroll(self, *args, **options):
                return unroll_eligibly(self.answered, lambda activity: credit, *args, **options)

        _, eligibility = with_eligibility(objective, Credited, params, rest, jr.key(3))
        return eligibility.projections, expected.projections

    sizes = {name: neuron.size * len(neuron.ports) for name, neuron in network.populations.items()}
    eligibility, expected = both(params, {name: jnp.zeros((zoo.STEPS, zoo.BATCH, n)) for name, n in sizes.items()})
    assert zoo.difference(eligibility, expected) < 1e-12


@pytest.mark.parametrize("distribution", ["gaussian", "sign"])
def test_a_vanishing_weight_perturbation_is_the_forward_gradient(distribution):
    """(∇L · ξ) ξ with the same ξ; a noise of its own in either run would leave its mark divided by sigma."""
    network = zoo.single_layer("leaky_current", "spike_and_slab", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))

    def objective(network, rule, key):
        return jnp.sum((network(inputs, rule=rule, key=key).outputs - targets) ** 2), None

    rule = WeightPerturbation(1e-6, distribution=distribution, central=True)
    limit = gradient(ForwardGradient(1, distribution), objective, network)
    assert zoo.difference(gradient(rule, objective, network), limit) < 1e-7


def test_several_draws_are_averaged():
    network, objective = linear()
    limit = linear_task.weight(gradient(ForwardGradient(3), objective, network))
    rule = WeightPerturbation(1.0, perturbations=3, central=True)
    assert jnp.allclose(linear_task.weight(gradient(rule, objective, network)), limit, rtol=1e-10)
    directions = [draw(key, limit) for key in jr.split(perturbation_key(jr.key(3)), 3)]
    exact = linear_task.weight(gradient(BPTT(), objective, network))
    assert jnp.allclose(sum(jnp.sum(exact * v) * v for v in directions) / 3, limit, rtol=1e-10)


def test_the_forward_gradient_is_the_slope_along_a_direction_times_the_direction():
    network, objective = recurrent("single", "lstm", "dense")
    exact, _ = ravel_pytree(gradient(BPTT(), objective, network))
    once, _ = ravel_pytree(gradient(ForwardGradient(), objective, network))
    direction = once / jnp.sqrt(once @ exact)  # (g·v) v · g = (g·v)², up to the sign of v
    assert jnp.allclose((exact @ direction) * direction, once, rtol=1e-10)
    assert jnp.sum(direction**2) == pytest.approx(exact.size, rel=0.2)


def test_forward_mode_ignores_feedback_matrices():
    network, objective = recurrent("single", "vanilla", "dense")
    plain = gradient(ForwardGradient(), objective, network).projections
    other = network.with_feedback("random", key=jr.key(1))
    fed_back = gradient(ForwardGradient(), objective, other).projections
    for name in plain:
        assert jnp.array_equal(plain[name].synapse.weight, fed_back[name].synapse.weight)


def test_differences_one_at_a_time_are_exact_to_second_and_third_order():
    network, objective = linear()
    exact = linear_task.weight(gradient(BPTT(), objective, network))
    one_sided = WeightPerturbation(0.5, distribution="one_at_a_time")
    central = WeightPerturbation(0.5, distribution="one_at_a_time", central=True)
    curvature = TASK.power  # of the error along any weight
    by_one = linear_task.weight(gradient(one_sided, objective, network))
    assert jnp.allclose(by_one, exact + 0.5 * 0.5 * curvature, rtol=0, atol=1e-12)
    assert jnp.allclose(linear_task.weight(gradient(central, objective, network)), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("central", "ratio", "tolerance"), [(False, 10, 0.5), (True, 100, 10)])
def test_differences_converge_with_the_step(central, ratio, tolerance):
    network = zoo.single_layer("vanilla", "dense", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1), steps=20)

    def objective(network, rule, key):
        return zoo.loss(network, inputs, targets, rule), None

    exact, _ = ravel_pytree(gradient(BPTT(), objective, network))

    def error(sigma):
        rule = WeightPerturbation(sigma, distribution="one_at_a_time", central=central)
        return jnp.linalg.norm(ravel_pytree(gradient(rule, objective, network))[0] - exact)

    assert error(1e-3) / error(1e-4) == pytest.approx(ratio, abs=tolerance)
    assert error(1e-4) < 1e-2 * jnp.linalg.norm(exact)
    if central:
        assert error(1e-4) < 1e-6 * jnp.linalg.norm(exact)


def test_differences_divide_by_the_step_that_rounding_has_left():
    """At a weight of 100, 1e-3 becomes 0.99945e-3 in float32."""
    hundred = rg.synapses.Dense(jnp.full((1, 1), 100.0, jnp.float32))
    network = rg.Network(
        {"readout": rg.neurons.Linear(1)},
        [rg.Projection("input", "readout", hundred), rg.Projection("bias", "readout", hundred, frozen=True)],
        inputs=1,
        readout="readout",
    )

    def objective(network, rule, key):  # subtracts no constant, with which XLA could undo the rounding
        return (linear_task.weight(network) - network.projections["bias->readout"].synapse.weight)[0, 0], None

    rule = WeightPerturbation(1e-3, distribution="one_at_a_time")
    _, estimate, _ = eqx.filter_jit(rule.value_and_grad)(objective, network, key=jr.key(0))
    assert linear_task.weight(estimate) == 1.0


@pytest.mark.parametrize("correlation", [0.0, 2.0])
def test_one_draw_of_node_perturbation_is_noise_times_presynaptic_activity(correlation):
    network, objective = linear()
    inputs, _ = linear_task.trial(TASK, 5, jr.key(0))
    losses, noises = [], []

    def watched(network, rule, key):
        loss, outputs = objective(network, rule, key)
        jax.debug.callback(lambda *seen: (losses.append(seen[0]), noises.append(seen[1])), loss, outputs - quiet)
        return loss, None

    quiet = inputs @ WEIGHTS.T  # so what remains of the outputs is the noise
    estimate = linear_task.weight(gradient(NodePerturbation(0.1, correlation=correlation), watched, network))
    jax.effects_barrier()
    assert len(losses) == 2
    noisy = np.argmax([np.abs(noise).max() for noise in noises])
    rise = losses[noisy] - losses[1 - noisy]
    gain = (1 - np.exp(-0.5)) / (1 + np.exp(-0.5)) if correlation else 1.0
    expected = gain * rise / 0.1**2 * jnp.einsum("tbi,tbj->ij", noises[noisy], inputs)
    assert jnp.allclose(estimate, expected, rtol=1e-9)
    assert np.abs(noises[1 - noisy]).max() < 1e-14
    assert noises[noisy].std() == pytest.approx(0.1, rel=0.5)


def test_node_perturbation_takes_the_activity_of_the_perturbed_run():
    """Read out in the last step only, the readout's share is one outer product: its noise by that step's activity."""
    network = zoo.single_layer("vanilla", "dense", jr.key(0))
    inputs = jr.uniform(jr.key(1), (zoo.STEPS, 1, zoo.INPUTS))
    seen = []

    def objective(network, rule, key):
        run = network(inputs, rule=rule, readout_steps=1, record=("hidden",))
        jax.debug.callback(lambda hidden: seen.append(hidden), run.activity["hidden"][-1, 0])
        return jnp.sum(run.outputs**2), None

    estimate = gradient(NodePerturbation(0.3), objective, network).projections["hidden->readout"].synapse.weight
    jax.effects_barrier()
    quiet = network(inputs, record=("hidden",)).activity["hidden"][-1, 0]
    (noisy,) = [hidden for hidden in seen if not np.allclose(hidden, quiet)]
    assert jnp.linalg.matrix_rank(estimate, rtol=1e-10) == 1
    assert jnp.allclose(estimate / estimate[:, :1], (noisy / noisy[0])[None], rtol=1e-10)


@pytest.mark.parametrize("make", [WeightPerturbation, NodePerturbation, HybridPerturbation])
def test_both_signs_cancel_what_is_even(make):
    """On a linear network and a quadratic error, pairs of any size are the limit of small ones."""
    network, objective = linear()
    big, small = (gradient(make(sigma, central=True), objective, network) for sigma in (0.7, 1e-4))
    assert zoo.difference(big, small) < 1e-7
    assert zoo.difference(gradient(make(0.7), objective, network), small) > 1e-2


@pytest.mark.parametrize("make", [NodePerturbation, HybridPerturbation])
def test_a_regulariser_is_differentiated_where_noise_does_not_reach_it(make):
    def decay(network):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(eqx.filter(network, network.trainable())))

    network, plain = recurrent("single", "vanilla", "dense")
    _, regularised = recurrent("single", "vanilla", "dense", decay)
    estimates = [gradient(make(1e-2), objective, network) for objective in (regularised, plain)]
    added = jax.tree.map(jnp.subtract, *estimates)
    assert zoo.difference(added, jax.tree.map(jnp.cos, eqx.filter(network, network.trainable()))) < 1e-9


def test_a_regulariser_is_part_of_what_weight_perturbation_measures():
    def decay(network):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(eqx.filter(network, network.trainable())))

    network, objective = recurrent("single", "leaky_current", "spike_and_slab", decay)
    rule = WeightPerturbation(1e-5, distribution="one_at_a_time", central=True)
    assert zoo.difference(gradient(rule, objective, network), gradient(BPTT(), objective, network)) < 1e-7


def test_tied_weights_get_the_sum_of_what_each_place_would():
    square = zoo.single_layer("vanilla", "dense", jr.key(0)).projections["hidden->hidden"].synapse
    inputs, targets = jr.normal(jr.key(1), (2, 5, 2, zoo.SIZE))
    populations = {"hidden": rg.neurons.LeakyRate(zoo.SIZE), "readout": rg.neurons.Linear(zoo.SIZE)}
    first = rg.Projection("input", "hidden", rg.synapses.Dense(jnp.eye(zoo.SIZE)), frozen=True)

    def estimate(readout):
        wires = [first, rg.Projection("hidden", "hidden", square, delay=1), rg.Projection("hidden", "readout", readout)]
        network = rg.Network(populations, wires, inputs=zoo.SIZE, readout="readout")

        def objective(network, rule, key):
            return jnp.sum((network(inputs, rule=rule).outputs - targets) ** 2), None

        return gradient(NodePerturbation(1e-2), objective, network).projections

    tied = estimate(rg.synapses.Tied("hidden->hidden", zoo.SIZE, zoo.SIZE, transposed=True))
    alone = estimate(rg.synapses.Dense(square.weight.T))
    assert tied["input->hidden"].synapse.weight is None
    total = alone["hidden->hidden"].synapse.weight + alone["hidden->readout"].synapse.weight.T
    assert zoo.difference(tied["hidden->hidden"].synapse.weight, total) < 1e-12


def test_a_quenched_draw_is_perturbed_as_the_network_that_was_drawn():
    network = zoo.single_layer("vanilla", "spike_and_slab", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))

    def objective(network, rule, key):
        outputs = network(inputs, rule=rule, key=jr.key(7), weights="quenched").outputs
        return jnp.sum((outputs - targets) ** 2), None

    drawn = network.sample(jr.split(jr.key(7))[0])
    random, fixed = (gradient(NodePerturbation(1e-2), objective, n).projections for n in (network, drawn))
    for name in ("input->hidden", "hidden->hidden", "hidden->readout"):
        here = drawn.projections[name].synapse.weight != 0
        expected = jnp.where(here, fixed[name].synapse.weight, 0.0)
        assert zoo.difference(random[name].synapse.m, expected) < 1e-12
        assert jnp.abs(random[name].synapse.pi).max() == 0  # a draw says nothing about its own odds


# --- what is left alone


SPARSE = {
    "node": NodePerturbation(0.1),
    "hybrid": HybridPerturbation(0.1),
    "active_only": WeightPerturbation(0.1, active_only=True),
}


@pytest.mark.parametrize("rule", SPARSE.values(), ids=SPARSE)
def test_weights_of_silent_neurons_stay_as_they_are(rule):
    """An input that is 0 throughout, and a hidden neuron far below threshold."""
    network = zoo.single_layer("leaky_relu", "spike_and_slab", jr.key(0))
    drive = {"hidden": jnp.zeros((zoo.STEPS, zoo.BATCH, zoo.SIZE)).at[..., 2].set(-1e3)}
    network = eqx.tree_at(lambda n: n.populations["hidden"].initial, network, 0.0)
    inputs, targets = zoo.trial(jr.key(1))

    def objective(network, rule, key):
        outputs = network(inputs.at[..., 1].set(0), rule=rule, key=key, drive=drive).outputs
        return jnp.sum((outputs - targets) ** 2), None

    estimate = gradient(rule, objective, network).projections
    by_weights = gradient(WeightPerturbation(0.1), objective, network).projections
    for name, column in (("input->hidden", 1), ("hidden->hidden", 2), ("hidden->readout", 2)):
        others = [i for i in range(network.projections[name].synapse.shape[1]) if i != column]
        for leaf in jax.tree.leaves(estimate[name].synapse):
            assert jnp.abs(leaf[:, column]).max() == 0
            assert (jnp.abs(leaf[:, others]).max(axis=0) > 0).all()
        assert all(jnp.abs(leaf[:, column]).min() > 0 for leaf in jax.tree.leaves(by_weights[name].synapse))


def test_where_all_inputs_are_active_there_is_no_other_weight_perturbation():
    network, objective = linear()
    plain = gradient(WeightPerturbation(0.1, 3, central=True), objective, network)
    active = gradient(WeightPerturbation(0.1, 3, central=True, active_only=True), objective, network)
    assert eqx.tree_equal(plain, active)


@every_rule
def test_entries_that_a_mask_holds_fixed_get_nothing(rule):
    network, objective = recurrent("single", "vanilla", "masked")
    estimate = gradient(rule, objective, network).projections
    for name in ("input->hidden", "hidden->hidden", "hidden->readout"):
        mask = network.projections[name].synapse.mask
        assert jnp.array_equal(estimate[name].synapse.synapse.weight != 0, mask)


# --- what is evaluated


@every_rule
def test_the_loss_is_that_of_the_unperturbed_network(rule):
    network = zoo.single_layer("leaky_current", "spike_and_slab", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))

    def objective(network, rule, key):
        outputs = network(inputs, rule=rule, key=key).outputs
        return jnp.sum((outputs - targets) ** 2), outputs

    loss, outputs = rule.value_and_grad(objective, network, key=jr.key(3))[0]
    expected_loss, expected_outputs = objective(network, None, jr.key(3))
    assert jnp.allclose(loss, expected_loss, rtol=1e-13)
    assert jnp.allclose(outputs, expected_outputs, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (WeightPerturbation(), 2),
        (WeightPerturbation(central=True), 3),
        (WeightPerturbation(perturbations=4), 5),
        (WeightPerturbation(perturbations=4, central=True), 9),
        (WeightPerturbation(active_only=True), 2),
        (WeightPerturbation(distribution="sign"), 2),
        (WeightPerturbation(distribution="one_at_a_time"), 11),
        (WeightPerturbation(distribution="one_at_a_time", central=True), 21),
        (NodePerturbation(), 2),
        (NodePerturbation(perturbations=4, central=True), 9),
        (HybridPerturbation(), 2),
        (ForwardGradient(), 1),
        (ForwardGradient(5), 1),  # the slopes of one evaluation
    ],
)
def test_number_of_evaluations(rule, count):
    network, objective = linear()
    calls = []

    def counted(network, rule, key):
        loss, aux = objective(network, rule, key)
        jax.debug.callback(lambda loss: calls.append(loss), loss)
        return loss, aux

    gradient(rule, counted, network)
    jax.effects_barrier()
    assert len(calls) == count


def test_the_key_of_the_perturbation_is_none_that_splitting_gives():
    key = jr.key(3)
    taken = {tuple(np.asarray(jr.key_data(other))) for other in jr.split(key, 1000)}
    assert tuple(np.asarray(jr.key_data(perturbation_key(key)))) not in taken


def test_runs_of_one_objective_differ_in_their_noise():
    """By a key of their own or by going on from the last state; otherwise their shares would mix."""
    network, _ = linear()
    inputs, targets = linear_task.trial(TASK, 5, jr.key(0))

    def outputs(kind, network, rule, key):
        if kind == "keys":
            return [network(inputs, rule=rule, key=k).outputs for k in jr.split(key)]
        first = network(inputs, rule=rule)
        return [first.outputs, network(inputs, rule=rule, state=first.state).outputs]

    for kind in ("keys", "state"):

        def objective(network, rule, key, kind=kind):
            runs = outputs(kind, network, rule, key)
            return sum(jnp.mean(jnp.sum((run - targets) ** 2, axis=2)) / 4 for run in runs), None

        draws = sample(NodePerturbation(1e-3), objective, network, 20_000)
        assert deviation(draws, linear_task.weight(gradient(BPTT(), objective, network))).max() < 3.5


def test_weight_perturbation_needs_no_derivative_at_all():
    """Spiking neurons and a share of wrong answers: piecewise constant, with plateaus that the steps reach across."""
    network = zoo.single_layer("lif", "dense", jr.key(0))
    inputs, _ = zoo.trial(jr.key(1), batch=20)
    trials = rg.tasks.Trials(inputs, jnp.zeros((1, 20), int), jnp.ones((1, 20)))

    def objective(network, rule, key):
        return -rg.losses.accuracy(network(inputs, rule=rule, readout_steps=1).outputs, trials), None

    rule = WeightPerturbation(0.3, perturbations=200)
    _, estimate, _ = eqx.filter_jit(rule.value_and_grad)(objective, network, key=jr.key(3))
    readout = estimate.projections["hidden->readout"].synapse.weight
    assert readout[0].mean() < 0 < readout[1].mean()  # descending makes class 0 more likely


# --- training


@pytest.mark.slow  # two of them are trained whenever the documentation is tested
@pytest.mark.parametrize(
    ("rule", "rate"),
    [
        (WeightPerturbation(1e-3, perturbations=10), 0.1),
        (NodePerturbation(1e-3, perturbations=10), 0.1),
        (HybridPerturbation(1e-3, perturbations=10), 1e-2),
        (ForwardGradient(10), 0.1),
    ],
    ids=["weight", "node", "hybrid", "forward"],
)
def test_it_trains(rule, rate):
    task = rg.tasks.DelayedRecall(symbols=2, delay=2)
    network = rg.Network.single_layer(task, rg.neurons.LeakyRate(8, alpha=0.5), key=jr.key(0))
    optimiser = optax.sgd(rate)
    result = rg.fit(network, task, rule=rule, optimiser=optimiser, steps=150, batch=16, key=jr.key(0))
    loss = result.history.loss[0]
    assert loss[-20:].mean() < 0.5 * loss[:5].mean(), loss


# --- refusals


@every_rule
def test_differentiating_through_a_run_is_refused(rule):
    network, objective = recurrent("single", "vanilla", "dense")
    with pytest.raises(TypeError, match=r"has no backward pass. Call .*value_and_grad"):
        eqx.filter_grad(lambda network: objective(network, rule, jr.key(0))[0])(network)


@pytest.mark.parametrize("make", [NodePerturbation, HybridPerturbation])
def test_parameters_of_neurons_are_refused(make):
    network, objective = recurrent("single", "leaky_activity", "dense")
    with pytest.raises(ValueError, match=f"`{make.__name__}` has no estimate for 'hidden.alpha'.*Python float"):
        gradient(make(), objective, network)
    assert jnp.abs(gradient(WeightPerturbation(), objective, network).populations["hidden"].alpha).min() > 0


def test_annealed_weights_are_refused():
    network, objective = recurrent("single", "vanilla", "spike_and_slab", weights="annealed")
    with pytest.raises(ValueError, match="annealed"):
        gradient(WeightPerturbation(active_only=True), objective, network)


@pytest.mark.parametrize("weights", ["quenched", "mean"])
def test_the_hybrid_refuses_random_weights_outside_the_mean_field(weights):
    network, objective = recurrent("single", "vanilla", "spike_and_slab", weights=weights)
    with pytest.raises(ValueError, match="mean field only"):
        gradient(HybridPerturbation(), objective, network)


@pytest.mark.parametrize("rule", SPARSE.values(), ids=SPARSE)
def test_a_loss_without_a_path_to_the_activity_is_refused(rule):
    network, inputs = zoo.single_layer("vanilla", "dense", jr.key(0)), zoo.trial(jr.key(1))[0]

    def objective(network, rule, key):
        outputs = network(inputs, rule=rule).outputs
        return jnp.mean((jnp.argmax(outputs, axis=2) == 0).astype(outputs.dtype)), None

    with pytest.raises(ValueError, match="any path that JAX can differentiate"):
        gradient(rule, objective, network)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightPerturbation(sigma=0.0), r"`WeightPerturbation.sigma=.* must be positive, got 0.0"),
        (lambda: NodePerturbation(sigma=-1.0), r"`NodePerturbation.sigma=.* must be positive, got -1.0"),
        (lambda: HybridPerturbation(sigma=float("nan")), r"`HybridPerturbation.sigma=.* must be positive, got nan"),
        (lambda: WeightPerturbation(perturbations=0), r"`WeightPerturbation.perturbations=.*1 or more, got 0"),
        (lambda: NodePerturbation(perturbations=-1), r"`NodePerturbation.perturbations=.*1 or more, got -1"),
        (lambda: HybridPerturbation(perturbations=0), r"`HybridPerturbation.perturbations=.*1 or more, got 0"),
        (lambda: ForwardGradient(directions=0), r"`ForwardGradient.directions=.*1 or more, got 0"),
        (lambda: NodePerturbation(correlation=-1.0), r"time constant in steps"),
        (lambda: WeightPerturbation(distribution="one_at_a_time", perturbations=2), r"takes neither `perturbations`"),
        (lambda: WeightPerturbation(distribution="one_at_a_time", active_only=True), r"nor `active_only`"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
