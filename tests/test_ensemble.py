"""The spike-and-slab ensemble against the main paper: golden values, closed form, limits, and the two samplers."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import zoo
from reference import gbptt_numpy as gbptt

import retrograde as rg
from retrograde.synapses import Dense, SpikeAndSlab

GOLDEN = json.loads((Path(__file__).parent / "golden" / "zou2023.json").read_text())
NAMES = {"input": "input->hidden", "recurrent": "hidden->hidden", "output": "hidden->readout"}


def build(weights, *, alpha, initial_state=0.1):
    """The paper's network from the reference's layers."""

    def synapse(layer):
        arrays = [jnp.asarray(array) for array in weights[layer] if array is not None]
        return SpikeAndSlab(*arrays) if len(arrays) == 3 else Dense(*arrays)

    neurons, inputs = weights["input"].m.shape
    return rg.Network(
        {
            "hidden": rg.neurons.LeakyRate(neurons, "relu", alpha=alpha, initial=initial_state),
            "readout": rg.neurons.Linear(len(weights["output"].m)),
        },
        [
            rg.Projection("input", "hidden", synapse("input")),
            rg.Projection("hidden", "hidden", synapse("recurrent"), delay=1),
            rg.Projection("hidden", "readout", synapse("output")),
        ],
        inputs=inputs,
        readout="readout",
    )


@eqx.filter_jit
@eqx.filter_value_and_grad(has_aux=True)
def loss_and_gradient(network, inputs, labels, eps, eps_out):
    """Cross-entropy of the last steps under the noise given; the trajectory comes along."""
    noise = {
        "hidden": eps,
        "readout": jnp.zeros((*inputs.shape[:2], eps_out.shape[-1])).at[-len(eps_out) :].set(eps_out),
    }
    out = network(inputs, rule=rg.rules.BPTT(), noise=noise, readout_steps=len(eps_out), record=("hidden",))
    log_p = jax.nn.log_softmax(out.outputs)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], -1)), out


def run(case):
    case = dict(case)
    network = build(case.pop("weights"), alpha=case.pop("alpha"), initial_state=case.pop("initial_state"))
    arrays = {name: jnp.asarray(value) for name, value in case.items()}
    (loss, out), gradient = loss_and_gradient(
        network, arrays["inputs"], arrays["labels"], arrays["eps"], arrays["eps_out"]
    )
    layers = {layer: gradient.projections[name].synapse for layer, name in NAMES.items()}
    return loss, out, layers


def test_the_forward_pass_gives_the_golden_values():
    loss, out, _ = run(gbptt.golden_case())
    expected = GOLDEN["forward"]
    np.testing.assert_allclose(out.state.neurons["hidden"].value.T, expected["state_3"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(out.activity["hidden"][0].T, np.maximum(expected["state_1"], 0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(out.outputs[0].T, expected["outputs"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(loss, expected["loss"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("parameter", ["m", "pi", "xi"])
@pytest.mark.parametrize("layer", gbptt.LAYERS)
def test_the_backward_pass_gives_the_golden_values(layer, parameter):
    _, _, gradient = run(gbptt.golden_case())
    g = np.asarray(getattr(gradient[layer], parameter))
    found = [g.sum(), np.linalg.norm(g), g[0, 0], g[-1, -1]]
    np.testing.assert_allclose(found, GOLDEN["gradient"][layer][parameter], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"time": 1, "steps": 1, "batch": 1},
        {"time": 12, "steps": 12, "neurons": 8, "inputs": 1, "deterministic_input": True},
    ],
    ids=["usual", "one step", "deterministic input"],
)
def test_the_closed_form_equals_differentiation(sizes):
    for seed in range(3):
        case = gbptt.random_case(seed, **sizes)
        expected_loss, expected = gbptt.gradient(**case)
        loss, _, gradient = run(case)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
        for layer, weights in expected.items():
            for field, array in weights._asdict().items():
                if array is not None:
                    field = "weight" if isinstance(gradient[layer], Dense) else field
                    np.testing.assert_allclose(getattr(gradient[layer], field), array, rtol=1e-10, atol=1e-13)


def test_without_spread_the_ensemble_is_a_plain_network():
    case = gbptt.random_case(0)
    plain = {layer: gbptt.Weights(w.m) for layer, w in case["weights"].items()}
    certain = {layer: gbptt.Weights(w.m, 0 * w.m, 0 * w.m) for layer, w in case["weights"].items()}
    ensemble_loss, _, ensemble = run(case | {"weights": certain})
    plain_loss, _, dense = run(case | {"weights": plain})
    np.testing.assert_allclose(ensemble_loss, plain_loss, rtol=1e-14)
    for layer in gbptt.LAYERS:
        np.testing.assert_allclose(ensemble[layer].m, dense[layer].weight, rtol=1e-12, atol=1e-15)
        assert jnp.isfinite(ensemble[layer].pi).all() and jnp.isfinite(ensemble[layer].xi).all()


def test_absent_connections_carry_nothing_and_have_finite_gradients():
    case = gbptt.random_case(0)
    absent = {layer: gbptt.Weights(w.m, 0 * w.m + 1, w.xi) for layer, w in case["weights"].items()}
    _, out, gradient = run(case | {"weights": absent})
    assert jnp.abs(out.outputs).max() == 0
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_silent_input_makes_no_nan():
    case = gbptt.random_case(0) | {"initial_state": 0.0}
    case["inputs"] = 0 * case["inputs"]
    loss, _, gradient = run(case)
    assert jnp.isfinite(loss) and all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_identity_weights_integrate_exactly():
    """With m = 1, pi = xi = 0 and ReLU, s_t = s_{t-1} + alpha W_in x_t."""
    rng = np.random.default_rng(0)
    w_in, x = rng.uniform(0, 1, (4, 3)), rng.uniform(0, 1, (20, 2, 3))
    zero, one = np.zeros((4, 4)), np.eye(4)
    weights = {
        "input": gbptt.Weights(w_in, 0 * w_in, 0 * w_in),
        "recurrent": gbptt.Weights(one, zero, zero),
        "output": gbptt.Weights(one, zero, zero),
    }
    network = build(weights, alpha=0.1)
    outputs = network(jnp.asarray(x), key=jr.key(0)).outputs
    np.testing.assert_allclose(outputs, 0.1 + 0.1 * np.cumsum(x @ w_in.T, 0), rtol=1e-13)


def test_annealed_sampling_has_the_moments_of_the_mean_field():
    """One step and its readout, where both are exact: 40,000 draws, 5 standard errors."""
    network = zoo.single_layer("leaky_current", "spike_and_slab", jr.key(0))
    network = eqx.tree_at(lambda n: n.populations["hidden"], network, rg.neurons.LeakyRate(zoo.SIZE, "identity"))
    inputs = jr.normal(jr.key(1), (1, 1, zoo.INPUTS))
    draws = 40_000

    @eqx.filter_jit
    def samples(weights):
        def one(key):
            out = network(inputs, key=key, weights=weights, record=("hidden",))
            return out.activity["hidden"][0, 0], out.outputs[0, 0]

        return jax.vmap(one)(jr.split(jr.key(2), draws))

    for annealed, pooled in zip(samples("annealed"), samples("mean-field"), strict=True):
        annealed, pooled = np.asarray(annealed), np.asarray(pooled)
        error = np.sqrt((annealed.var(0) + pooled.var(0)) / draws)
        assert (np.abs(annealed.mean(0) - pooled.mean(0)) < 5 * error).all()
        squares = [((x - x.mean(0)) ** 2) for x in (annealed, pooled)]
        error = np.sqrt((squares[0].var(0) + squares[1].var(0)) / draws)
        assert (np.abs(squares[0].mean(0) - squares[1].mean(0)) < 5 * error).all()


def test_quenched_currents_are_correlated_over_time_and_trials_as_computed():
    """Cov[i_t(a), i_t'(b)] = sum_k V_ik x_tk(a) x_t'k(b); annealed sampling has none of it at t != t'."""
    rng = np.random.default_rng(0)
    m, pi, xi = rng.normal(size=(2, 3)), rng.uniform(0, 0.9, (2, 3)), rng.uniform(0, 0.5, (2, 3))
    synapse = SpikeAndSlab(*map(jnp.asarray, (m, pi, xi)))
    network = rg.Network(
        {"readout": rg.neurons.Linear(2)}, [rg.Projection("input", "readout", synapse)], inputs=3, readout="readout"
    )
    x = rng.normal(size=(2, 2, 3))
    draws = 40_000

    @eqx.filter_jit
    def currents(weights):
        return jax.vmap(lambda key: network(jnp.asarray(x), key=key, weights=weights).outputs)(
            jr.split(jr.key(1), draws)
        )

    variance = synapse.moments().variance
    expected = np.einsum("ik,tak,ubk->tauib", variance, x, x).transpose(0, 1, 2, 4, 3)  # t a u b i
    quenched, annealed = currents("quenched"), currents("annealed")
    for sampled, kept in ((quenched, np.ones((2, 2))), (annealed, np.eye(2))):
        centred = np.asarray(sampled) - np.asarray(sampled).mean(0)
        products = np.einsum("stai,subi->staubi", centred, centred)
        error = products.std(0) / np.sqrt(draws)
        assert (np.abs(products.mean(0) - expected * kept[:, None, :, None, None]) < 5 * error).all()


def test_random_updates_with_projection_stay_in_range_and_reach_its_ends():
    network = zoo.single_layer("leaky_relu", "spike_and_slab", jr.key(0))

    @jax.jit
    def wander(arrays):
        def update(arrays, key):
            leaves, shape = jax.tree.flatten(arrays)
            keys = jr.split(key, len(leaves))
            moved = [leaf + 0.05 * jr.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
            projected = eqx.combine(jax.tree.unflatten(shape, moved), rest).project()
            return eqx.filter(projected, trained), None

        return jax.lax.scan(update, arrays, jr.split(jr.key(2), 100))[0]

    trained = network.trainable()
    arrays, rest = eqx.partition(network, trained)
    network = eqx.combine(wander(arrays), rest)
    layers = [network.projections[name].synapse for name in NAMES.values()]
    pi, xi = (jnp.concatenate([getattr(s, field).ravel() for s in layers]) for field in ("pi", "xi"))
    assert (pi >= 0).all() and (pi <= 1).all() and (xi >= 0).all()
    assert (pi == 0).any() and (pi == 1).any() and (xi == 0).any()
