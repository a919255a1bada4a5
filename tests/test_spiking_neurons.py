"""Spiking neurons against the papers' equations: surrogates, orders of operation, parametrisations, time constants."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retrograde as rg
from retrograde.neurons import ALIF, LIF, SURROGATES, Filtered, LeakyReadout, Linear, YinALIF
from retrograde.synapses import Dense

# ---------------------------------------------------------------- surrogates


def test_multi_gaussian_has_the_published_values():
    """Values before the factor γ: digest of Yin et al. (2021), 3.1."""
    psi = rg.neurons.MultiGaussian(dampening=1.0)
    x = jnp.array([0, 0.25, 0.5, 1, 1.5, 2, 3, 5])
    known = [0.878223, 0.770539, 0.517716, 0.086904, -0.024648, -0.031391, -0.024196, -0.010191]
    assert np.abs(psi(x) - jnp.array(known)).max() < 1e-6
    assert np.abs(psi(-x) - psi(x)).max() < 1e-15
    assert abs(psi(jnp.array(1.27216))) < 1e-5
    grid = jnp.linspace(1.5, 2.5, 10_001)
    lowest = int(psi(grid).argmin())
    assert abs(float(grid[lowest]) - 1.864) < 1e-3
    assert abs(float(psi(grid)[lowest]) + 0.031731) < 1e-6
    wide = jnp.linspace(-40, 40, 400_001)
    assert abs(float(jnp.trapezoid(psi(wide), wide)) - 0.85) < 1e-6
    narrow = rg.neurons.MultiGaussian(sigma=0.3, dampening=1.0)
    assert np.abs(narrow(jnp.array([0, 0.5, 1])) - jnp.array([1.463705, 0.318170, -0.050525])).max() < 1e-6
    assert float(rg.neurons.MultiGaussian()(jnp.array(0.0))) == pytest.approx(0.5 * 0.878223, abs=1e-6)


KNOWN = {
    "triangle": (rg.neurons.Triangle(0.5), [0.5, 0.25, 0.0]),
    "gaussian": (rg.neurons.Gaussian(), [0.3989423, 0.2419707, 0.0539910]),
    "exponential": (rg.neurons.Exponential(), [0.5, 0.0410425, 0.0033690]),
    "fast_sigmoid": (rg.neurons.FastSigmoid(sharpness=3.0), [1.0, 0.16, 0.0625]),
    "arc_tan": (rg.neurons.ArcTan(), [1.0, 0.2884004, 0.0919997]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_surrogates_have_their_values_at_0_a_half_and_1(name):
    surrogate, values = KNOWN[name]
    assert isinstance(surrogate, SURROGATES[name])
    assert np.abs(surrogate(jnp.array([0, 0.5, 1])) - jnp.array(values)).max() < 1e-6


@pytest.mark.parametrize("name", SURROGATES)
def test_any_neuron_takes_any_surrogate(name):
    """A spike's derivative is the surrogate, in the neuron's unit."""
    surrogate, threshold = SURROGATES[name](), 0.7
    v = jnp.array([[0.2, 0.69, 0.9]])
    lif = LIF(3, threshold=threshold, surrogate=surrogate)
    slope = jax.grad(lambda v: lif.activity(rg.neurons.LIFState(v, None)).sum())(v)
    assert np.abs(slope - surrogate((v - threshold) / threshold) / threshold).max() < 1e-15
    yin = YinALIF(3, threshold=threshold, surrogate=surrogate)
    slope = jax.grad(lambda u: yin.activity(rg.neurons.YinALIFState(u, jnp.zeros((1, 3)))).sum())(v)
    assert np.abs(slope - surrogate(v - threshold)).max() < 1e-15


# ---------------------------------------------------------------- the neuron of Yin et al.


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), beta=st.sampled_from([0.0, 0.184, 1.8]), threshold=st.sampled_from([0.01, 0.1, 1.6]))
def test_a_step_is_the_authors_five_lines(seed, beta, threshold):
    """Digest of Yin et al., 2.1; the reset takes the new threshold."""
    u, b, current, tau_mem, tau_adapt = np.random.default_rng(seed).uniform(0.0, 2.0, (5, 1, 6))
    tau_mem, tau_adapt = 1 + 20 * tau_mem, 5 + 200 * tau_adapt
    neuron = YinALIF(
        6, tau_mem=jnp.asarray(tau_mem[0]), tau_adapt=jnp.asarray(tau_adapt[0]), threshold=threshold, beta=beta
    )
    state = rg.neurons.YinALIFState(jnp.asarray(u), jnp.asarray(b))
    after = neuron.step(state, jnp.asarray(current))

    z = (u > threshold + beta * b).astype(float)
    alpha, rho = np.exp(-1 / tau_mem), np.exp(-1 / tau_adapt)
    b_new = rho * b + (1 - rho) * z
    theta = threshold + beta * b_new
    u_new = alpha * u + (1 - alpha) * current - theta * z
    assert np.array_equal(neuron.activity(state), z)
    assert np.abs(after.b - b_new).max() < 1e-15
    assert np.abs(after.u - u_new).max() < 1e-14
    assert np.array_equal(neuron.activity(after), u_new > theta)


def test_a_neuron_at_its_threshold_is_silent():
    neuron = YinALIF(2, threshold=0.5, beta=0.0)
    u = jnp.array([[0.5, np.nextafter(0.5, 1)]])
    assert neuron.activity(rg.neurons.YinALIFState(u, jnp.zeros((1, 2)))).tolist() == [[0.0, 1.0]]


def two_layers(key, lower, upper, inputs=3, outputs=2):
    keys = jr.split(key, 7)

    def weights(key, post, pre):
        return Dense(jr.normal(key, (post, pre)) * 2.0 / pre**0.5)

    return rg.Network(
        {"lower": lower, "upper": upper, "readout": Linear(outputs)},
        [
            rg.Projection("input", "lower", weights(keys[0], lower.size, inputs)),
            rg.Projection("bias", "lower", weights(keys[1], lower.size, 1)),
            rg.Projection("lower", "lower", weights(keys[2], lower.size, lower.size), delay=1),
            rg.Projection("lower", "upper", weights(keys[3], upper.size, lower.size)),
            rg.Projection("bias", "upper", weights(keys[4], upper.size, 1)),
            rg.Projection("upper", "upper", weights(keys[5], upper.size, upper.size), delay=1),
            rg.Projection("upper", "readout", weights(keys[6], outputs, upper.size)),
        ],
        inputs=inputs,
        readout="readout",
    )


def test_bptt_is_the_published_recursion():
    """Digest of Yin et al., 3.2, written out here in NumPy, layer by layer; float64, two layers, 20 steps."""
    steps, batch, beta, threshold = 20, 2, 1.8, 0.05
    rng = np.random.default_rng(3)
    tau = {name: rng.uniform(3, 12, size) for name, size in (("lower", 5), ("upper", 4))}
    tau_adapt = {name: rng.uniform(20, 60, value.size) for name, value in tau.items()}
    make = {
        name: YinALIF(
            value.size,
            tau_mem=jnp.asarray(value),
            tau_adapt=jnp.asarray(tau_adapt[name]),
            beta=beta,
            threshold=threshold,
            initial_adaptation=0.0,
        )
        for name, value in tau.items()
    }
    network = two_layers(jr.key(0), make["lower"], make["upper"])
    x = rng.normal(size=(steps, batch, 3))
    target = rng.normal(size=(steps, batch, 2))

    def loss(network):
        return jnp.sum((network(jnp.asarray(x), rule=rg.rules.BPTT()).outputs - target) ** 2)

    found = eqx.filter_grad(loss)(network)

    W = {name: np.asarray(p.synapse.weight) for name, p in network.projections.items()}
    surrogate = rg.neurons.MultiGaussian()

    def forward(name, pre):
        """Everything of a layer, step by step: `u, b, z, theta, current`, each `"time batch neuron"`."""
        size = tau[name].size
        alpha, rho = np.exp(-1 / tau[name]), np.exp(-1 / tau_adapt[name])
        source = "input" if name == "lower" else "lower"
        u, b, z = (np.zeros((batch, size)) for _ in range(3))
        rows = []
        for now in pre:
            current = now @ W[f"{source}->{name}"].T + W[f"bias->{name}"][:, 0] + z @ W[f"{name}->{name}"].T
            b_new = rho * b + (1 - rho) * z
            theta = threshold + beta * b_new
            u_new = alpha * u + (1 - alpha) * current - theta * z
            rows.append((u_new, b_new, (u_new > theta).astype(float), theta, current, u, b, z))
            u, b, z = rows[-1][:3]
        return [np.stack(part) for part in zip(*rows, strict=True)]

    def backward(name, layer, direct):
        u, _, _, theta, current, u_old, b_old, z_old = layer
        alpha, rho = np.exp(-1 / tau[name]), np.exp(-1 / tau_adapt[name])
        slope = np.asarray(surrogate(jnp.asarray(u - theta)))
        W_rec = W[f"{name}->{name}"]
        credit, blame = np.zeros_like(u), np.zeros_like(u)
        late_l = late_m = late_theta = np.zeros_like(u[0])
        for t in reversed(range(steps)):
            q = direct[t] + (1 - alpha) * late_l @ W_rec - late_theta * late_l + (1 - rho) * late_m
            credit[t] = slope[t] * q + alpha * late_l
            blame[t] = -beta * (slope[t] * q + z_old[t] * credit[t]) + rho * late_m
            late_l, late_m, late_theta = credit[t], blame[t], theta[t]
        to_current = (1 - alpha) * credit
        return to_current, {
            "rec": np.einsum("tbi,tbj->ij", to_current, z_old),
            "bias": to_current.sum((0, 1)),
            "tau_mem": (credit * (u_old - current) * alpha / tau[name] ** 2).sum((0, 1)),
            "tau_adapt": (blame * (b_old - z_old) * rho / tau_adapt[name] ** 2).sum((0, 1)),
        }

    lower = forward("lower", x)
    upper = forward("upper", lower[2])
    outputs = upper[2] @ W["upper->readout"].T
    assert 0.05 < lower[2].mean() < 0.95 and 0.05 < upper[2].mean() < 0.95  # they fire, and not always
    direct = 2 * (outputs - target) @ W["upper->readout"]
    to_upper, of_upper = backward("upper", upper, direct)
    to_lower, of_lower = backward("lower", lower, to_upper @ W["lower->upper"])
    inward = {
        "input->lower": np.einsum("tbi,tbj->ij", to_lower, x),
        "lower->upper": np.einsum("tbi,tbj->ij", to_upper, lower[2]),
    }
    for name, expected in (("lower", of_lower), ("upper", of_upper)):
        neuron = found.populations[name]
        close(found.projections[f"{name}->{name}"].synapse.weight, expected["rec"])
        close(found.projections[f"bias->{name}"].synapse.weight[:, 0], expected["bias"])
        close(neuron.tau_mem, expected["tau_mem"])
        close(neuron.tau_adapt, expected["tau_adapt"])
    for name, expected in inward.items():
        close(found.projections[name].synapse.weight, expected)


def close(found, expected, tolerance=1e-10):
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 0
    assert np.abs(np.asarray(found) - expected).max() < tolerance * np.abs(expected).max()


def test_eprop_follows_the_traces_of_the_digest():
    """Digest of Yin et al., 3.5: ε of membrane and adaptation by hand, where the whole reset is left out."""
    steps, size, beta, threshold = 40, 6, 1.8, 0.05
    rng = np.random.default_rng(5)
    tau, tau_adapt = rng.uniform(3, 12, size), rng.uniform(20, 60, size)
    neuron = YinALIF(
        size,
        tau_mem=jnp.asarray(tau),
        tau_adapt=jnp.asarray(tau_adapt),
        beta=beta,
        threshold=threshold,
        initial_adaptation=0.0,
        detach_reset=True,
    )
    task = rg.tasks.Sine(period=steps)
    network = rg.Network.single_layer(task, neuron, key=jr.key(1))
    network = eqx.tree_at(lambda n: n.projections["input->hidden"].synapse.weight, network, jnp.ones((size, 1)))
    x = rng.normal(size=(steps, 1, 1)) + 0.3
    error = rng.normal(size=(steps, 1, 1))

    def loss(network, form):
        return jnp.sum(error * network(jnp.asarray(x), rule=rg.rules.EProp(form=form)).outputs)

    W = {name: np.asarray(p.synapse.weight) for name, p in network.projections.items()}
    alpha, rho = np.exp(-1 / tau), np.exp(-1 / tau_adapt)
    u, b, z = (np.zeros(size) for _ in range(3))
    eps_u, eps_b, e = (np.zeros((size, size)) for _ in range(3))
    expected, spikes = np.zeros((size, size)), 0.0
    for t in range(steps):
        eps_u = alpha[:, None] * eps_u + (1 - alpha)[:, None] * z[None]
        eps_b = rho[:, None] * eps_b + (1 - rho)[:, None] * e
        current = W["input->hidden"] @ x[t, 0] + W["hidden->hidden"] @ z
        b = rho * b + (1 - rho) * z
        theta = threshold + beta * b
        u = alpha * u + (1 - alpha) * current - theta * z
        z = (u > theta).astype(float)
        slope = np.asarray(neuron.surrogate(jnp.asarray(u - theta)))
        e = slope[:, None] * (eps_u - beta * eps_b)
        expected += (W["hidden->readout"].T @ error[t, 0])[:, None] * e
        spikes += z.mean() / steps
    assert 0.05 < spikes < 0.95
    for form in ("backward", "forward"):
        found = eqx.filter_grad(loss)(network, form)
        close(found.projections["hidden->hidden"].synapse.weight, expected, 1e-12)


def test_a_readout_may_show_its_membrane():
    neuron = YinALIF(3, reads="membrane")
    state = rg.neurons.YinALIFState(jnp.array([[0.4, -0.2, 1.0]]), jnp.zeros((1, 3)))
    assert neuron.activity(state).tolist() == [[0.4, -0.2, 1.0]]
    # and fires nonetheless: the reset takes b0 + β (1-ρ) from the membrane
    after = neuron.step(state, jnp.zeros((1, 3)))
    assert float(after.b[0, 0]) > 0 and float(after.b[0, 1]) == 0


def test_initial_states_are_drawn_anew_in_each_trial_and_by_the_key_alone():
    neuron = YinALIF(4, initial=(0.2, 0.5))
    network = rg.Network.single_layer(rg.tasks.Sine(period=10), neuron, key=jr.key(0))
    drawn = network.initial_state(500, jnp.float64, jr.key(1)).neurons["hidden"].u
    assert 0.2 <= float(drawn.min()) < 0.21 and 0.49 < float(drawn.max()) < 0.5
    assert abs(float(drawn.mean()) - 0.35) < 5 * 0.3 / (12 * drawn.size) ** 0.5
    assert len(np.unique(drawn)) == drawn.size
    assert (network.initial_state(2).neurons["hidden"].u == 0.35).all()
    x = jnp.ones((10, 3, 1))
    runs = [network(x, key=key).outputs for key in (jr.key(1), jr.key(1), jr.key(2))]
    assert (runs[0] == runs[1]).all() and (runs[0] != runs[2]).any()


# ---------------------------------------------------------------- parametrisations


@pytest.mark.parametrize("adaptive", [False, True])
def test_both_parametrisations_fire_the_same_spikes(adaptive):
    """Digest of Bellec et al., 2.7: ϑ/(1-α) and β(1-ρ)/(1-α)."""
    tau, tau_adapt, threshold, beta, size = 20.0, 200.0, 0.03, 1.7, 20
    alpha, rho = np.exp(-1 / tau), np.exp(-1 / tau_adapt)
    if adaptive:
        old = ALIF(size, tau, tau_adapt, threshold, beta, normalised=True)
        new = ALIF(size, tau, tau_adapt, float(threshold / (1 - alpha)), float(beta * (1 - rho) / (1 - alpha)))
    else:
        old = LIF(size, tau, threshold, normalised=True)
        new = LIF(size, tau, float(threshold / (1 - alpha)))
    assert new.threshold == pytest.approx(0.6151, abs=1e-4)
    x = jr.normal(jr.key(3), (300, 2, 4))
    spikes = []
    for neuron in (old, new):
        network = rg.Network.single_layer(rg.tasks.Mimic(inputs=4), neuron, key=jr.key(2))
        spikes.append(network(x, record=("hidden",)).activity["hidden"])
    assert 0.01 < float(spikes[0].mean()) < 0.5
    assert (spikes[0] == spikes[1]).all()


def test_a_surrogate_in_units_of_the_adapted_threshold():
    """z = H((v - A)/A): the same spikes; slopes ψ/A by v and -ψ β v/A² by a."""
    v, a = jnp.array([[0.3, 0.9, 1.0, 1.9]]), jnp.array([[0.0, 0.5, 2.0, 3.0]])
    base, adapted = (ALIF(4, threshold=0.6, beta=0.2, surrogate_scale=scale) for scale in ("base", "adapted"))

    def spikes(neuron, v, a):
        return neuron.activity(dataclasses.replace(neuron.initial_state(1), v=v, a=a))

    assert np.array_equal(spikes(base, v, a), spikes(adapted, v, a))
    by_v, by_a = jax.grad(lambda v, a: spikes(adapted, v, a).sum(), argnums=(0, 1))(v, a)
    raised = 0.6 + 0.2 * a
    psi = 0.3 * jnp.maximum(0, 1 - jnp.abs(v - raised) / raised)
    assert np.abs(by_v - psi / raised).max() < 1e-14 and (psi > 0).sum() >= 3
    assert np.abs(by_a + psi * 0.2 * v / raised**2).max() < 1e-14


def test_reset_to_zero_forgets_the_membrane():
    neuron = LIF(2, tau_mem=10.0, threshold=1.0, reset="zero")
    state = rg.neurons.LIFState(jnp.array([[3.0, 0.5]]), None)
    after = neuron.step(state, jnp.array([[0.25, 0.25]]))
    assert np.abs(after.v - jnp.array([[0.25, 0.25 + 0.5 * np.exp(-0.1)]])).max() < 1e-15


def test_a_filter_hands_the_neuron_a_current_that_lasts():
    neuron = LIF(2, tau_mem=jnp.array([5.0, 9.0]), threshold=0.8)
    filtered = Filtered(neuron, tau=4.0, normalised=True)
    x = jr.normal(jr.key(0), (30, 1, 2)) + 0.5
    state, plain, kept = filtered.initial_state(1), neuron.initial_state(1), jnp.zeros((1, 2))
    kappa = np.exp(-1 / 4)
    for now in x:
        state = filtered.step(state, now)
        kept = kappa * kept + (1 - kappa) * now
        plain = neuron.step(plain, kept)
        assert np.abs(filtered.activity(state) - neuron.activity(plain)).max() == 0
        assert np.abs(state.current - kept).max() < 1e-15


def test_trained_time_constants_stay_positive():
    neuron = Filtered(LIF(3, tau_mem=jnp.array([-4.0, 0.0, 7.0])), tau=jnp.array([2.0, -1.0, 3.0]), dt=1.0)
    network = rg.Network.single_layer(rg.tasks.Sine(), neuron, key=jr.key(0))
    after = network.project().populations["hidden"]
    assert np.abs(after.neuron.tau_mem - jnp.array([0.1, 0.1, 7.0])).max() < 1e-15
    assert np.abs(after.tau - jnp.array([2.0, 0.1, 3.0])).max() < 1e-15
    assert LIF(3).project() == LIF(3)  # constants are left alone


def test_arrays_may_be_constants():
    """A mixture of plain and adaptive neurons whose adaptation is given and whose time constants learn."""
    neuron = ALIF(4, tau_mem=jnp.full(4, 10.0), beta=jnp.array([0.0, 0.0, 0.1, 0.1]), constants=("beta",))
    network = rg.Network.single_layer(rg.tasks.Sine(), neuron, key=jr.key(0))
    trained = network.trainable().populations["hidden"]
    assert trained.tau_mem is True and trained.beta is False
    found = rg.coverage(network, rg.rules.EProp(), key=jr.key(1))
    assert found["hidden.beta"].reach == "frozen" and found["hidden.tau_mem"].reach != "frozen"
    inside = rg.Network.single_layer(rg.tasks.Sine(), Filtered(neuron), key=jr.key(0))
    assert inside.trainable().populations["hidden"].neuron.beta is False
    x = jr.normal(jr.key(1), (20, 2, 1))
    for rule in (rg.rules.BPTT(), rg.rules.EProp(form="forward")):
        slope = eqx.filter_grad(lambda n, rule=rule: jnp.sum(n(x, rule=rule).outputs ** 2))(network)
        assert (slope.populations["hidden"].beta == 0).all()
        slope = eqx.filter_grad(lambda n, rule=rule: jnp.sum(n(x, rule=rule).outputs ** 2))(inside)
        assert (slope.populations["hidden"].neuron.beta == 0).all()
        assert (slope.populations["hidden"].neuron.tau_mem != 0).any()


@pytest.mark.parametrize(
    "neuron",
    [
        YinALIF(4, tau_mem=jnp.linspace(3.0, 9.0, 4), tau_adapt=20.0, threshold=0.05, initial=(0.0, 0.1)),
        Filtered(LIF(4, threshold=0.5, surrogate=rg.neurons.ArcTan()), tau=jnp.linspace(2.0, 5.0, 4)),
    ],
    ids=["yin_alif", "filtered"],
)
def test_rules_agree_on_the_new_neurons(neuron):
    """RTRL = BPTT, and e-prop's traces = e-prop's backward pass, with a leaky readout and random initial states."""
    network = rg.Network.single_layer(
        rg.tasks.Mimic(inputs=3, outputs=2), neuron, readout=LeakyReadout(2, tau=5.0), key=jr.key(4)
    )
    x = jr.normal(jr.key(5), (12, 2, 3)) + 0.5
    goal = jr.normal(jr.key(6), (12, 2, 2))

    def gradient(rule):
        def loss(network):
            return jnp.sum((network(x, rule=rule, key=jr.key(7)).outputs - goal) ** 2)

        return jax.tree.leaves(eqx.filter_grad(loss)(network))

    assert 0 < network(x, record=("hidden",), key=jr.key(7)).activity["hidden"].mean() < 1
    exact, local = gradient(rg.rules.BPTT()), gradient(rg.rules.EProp())
    for found, expected in zip(gradient(rg.rules.RTRL()), exact, strict=True):
        close(found, expected, 1e-10)
    for found, expected in zip(gradient(rg.rules.EProp(form="forward")), local, strict=True):
        close(found, expected, 1e-10)
    different = [np.abs(a - b).max() > 1e-6 * np.abs(b).max() for a, b in zip(local, exact, strict=True)]
    assert any(different)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: YinALIF(3, initial=(1.0, 0.0)), r"`YinALIF\(initial=\(1.0, 0.0\)\)` must be a range"),
        (lambda: YinALIF(3, tau_mem=-2.0), r"`YinALIF\(tau_mem=...\)` must be positive, got -2.0"),
        (
            lambda: ALIF(3, constants=("betta",)),
            r"`ALIF\(constants=...\)` names 'betta', which is none of size",
        ),
        (lambda: Filtered(rg.neurons.LSTM(3)), r"`Filtered\(LSTM\)` filters one current"),
        (lambda: Filtered(LIF(3), tau=0.0), r"`Filtered\(tau=...\)` must be positive"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
