"""Our neurons keep the contract; neurons that break it are told where and how."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import NEURONS, SIZE

import retrograde as rg
from retrograde.neurons import ALIF, GRU, LIF, LSTM, AbstractNeuron, Filtered, LeakyRate, LeakyReadout, Linear, YinALIF
from retrograde.testing import ContractError, check_neuron

OURS = NEURONS | {
    "linear": Linear,
    "leaky_readout": lambda n: LeakyReadout(n, tau=jnp.linspace(5.0, 9.0, n), normalised=True),
    "noisy": lambda n: LeakyRate(n, alpha=0.5, noise=0.1),
    "custom_function": lambda n: LeakyRate(n, jnp.sin, alpha=0.5),
    "lif_normalised": lambda n: LIF(n, threshold=0.3, normalised=True, reset="zero"),
    "filtered": lambda n: Filtered(LIF(n, threshold=0.3), tau=jnp.linspace(2.0, 4.0, n)),
    "yin_alif": lambda n: YinALIF(n, tau_mem=jnp.linspace(3.0, 9.0, n), threshold=0.3, initial=(0.0, 0.3)),
    "yin_readout": lambda n: YinALIF(n, tau_adapt=jnp.linspace(30.0, 90.0, n), threshold=0.3, reads="membrane"),
    "alif_refractory": lambda n: ALIF(
        n, threshold=0.3, beta=jnp.linspace(0.0, 0.2, n), refractory=3, detach_reset=True
    ),
}


@pytest.mark.parametrize("neuron", OURS)
def test_our_neurons_keep_the_contract(neuron):
    check_neuron(OURS[neuron](SIZE))


def test_a_large_population_is_checked_in_reasonable_memory():
    check_neuron(LeakyRate(180, alpha=0.5))


# ---------------------------------------------------------------- one broken neuron for each message


class Leaky(AbstractNeuron):
    """A right neuron; the broken ones differ in one thing. Its state is a dictionary."""

    size: int = eqx.field(static=True)

    def initial_state(self, batch, dtype=None):
        return {"v": jnp.zeros((batch, self.size), dtype)}

    def step(self, state, current):
        return {"v": 0.5 * state["v"] + current}

    def activity(self, state):
        return jnp.tanh(state["v"])


def broken(**members):
    """`Leaky` with some members replaced, called `Broken`."""
    return type("Broken", (Leaky,), members)(4)


class Traced(AbstractNeuron):
    size: int

    initial_state, step, activity = Leaky.initial_state, Leaky.step, Leaky.activity


class Named(Leaky):
    kind: str = "fast"


class Vector(Leaky):
    tau: jax.Array = eqx.field(default_factory=lambda: jnp.ones(3))


class Root(Leaky):
    gain: jax.Array = eqx.field(default_factory=lambda: jnp.zeros(4))

    def step(self, state, current):
        return {"v": 0.5 * state["v"] + current + jnp.sqrt(self.gain)[None]}


class Branch(Leaky):
    gain: float = 0.5

    def step(self, state, current):
        return {"v": (0.5 if self.gain > 0.1 else 0.2) * state["v"] + current}


def winner(self, state, current):
    v = 0.5 * state["v"] + current
    return {"v": v * (v == v.max(axis=1, keepdims=True)).astype(v.dtype)}


def mean_over(axis):
    return lambda self, state, current: {"v": state["v"] - state["v"].mean(axis, keepdims=True) + current}


counter = iter(range(10**6))

BROKEN = {
    "no_neuron": (lambda: object(), r"`object` is not a neuron: derive it from"),
    "size": (lambda: type("Broken", (Leaky,), {})(-1), r"`Broken.size` must be a positive whole number .* got -1"),
    "traced_size": (lambda: Traced(4), r"`Traced.size` must be a constant .* `size: int = eqx.field\(static=True\)`"),
    "ports": (lambda: broken(ports=("a", "a")), r"`Broken.ports` must be a tuple of different names"),
    "no_ports": (lambda: broken(ports="current"), r"`Broken.ports` must be a tuple"),
    "text_field": (lambda: Named(4), r"`Named.kind` is 'fast', which is no number.*static=True"),
    "parameter_shape": (lambda: Vector(4), r"`Vector.tau` has shape \(3,\).* first axis must have length 4"),
    "initial_state_fails": (
        lambda: broken(initial_state=lambda self, batch, dtype=None: jnp.zeros((batch, self.sizes))),
        r"`Broken.initial_state` fails: AttributeError",
    ),
    "initial_shape": (
        lambda: broken(initial_state=lambda self, batch, dtype=None: {"v": jnp.zeros((self.size,), dtype)}),
        r"`Broken.initial_state` returns \['v'\] of shape \(4,\) where \(batch, neuron\) is \(1, 4\)",
    ),
    "initial_dtype": (
        lambda: broken(initial_state=lambda self, batch, dtype=None: {"v": jnp.zeros((batch, self.size))}),
        r"`Broken.initial_state` returns \['v'\] of type float64 where float32 was asked for",
    ),
    "step_fails": (
        lambda: broken(step=lambda self, state, current: {"v": current[0] + jnp.ones(7)}),
        r"`Broken.step` with one current of shape \(1, 4\) and type float32 fails",
    ),
    "input_ports": (
        lambda: broken(ports=("a", "b"), input_ports=("a", "c")),
        r"`Broken.input_ports` must be None or a tuple .* out of `Broken.ports` = \('a', 'b'\), got \('a', 'c'\)",
    ),
    "recurrent_ports": (lambda: broken(recurrent_ports=()), r"`Broken.recurrent_ports` must be None or .* got \(\)"),
    "too_few_ports": (
        lambda: broken(ports=("a", "b"), step=lambda self, state, current: dict(zip("v", current, strict=True))),
        r"`Broken.step` with a tuple of 2 currents, one for each port, .* fails: ValueError",
    ),
    "structure": (
        lambda: broken(step=lambda self, state, current: {"v": current, "w": current}),
        r"`Broken.step` returns a state of another structure than it was given: .*'w'.*`initial_state` and `step`",
    ),
    "step_shape": (
        lambda: broken(step=lambda self, state, current: {"v": current[None]}),
        r"`Broken.step` returns \['v'\] of shape \(1, 1, 4\)",
    ),
    "step_dtype": (
        lambda: broken(step=lambda self, state, current: {"v": current.astype(jnp.float64)}),
        r"`Broken.step` returns \['v'\] of type float64 where float32",
    ),
    "activity_fails": (lambda: broken(activity=lambda self, state: state["w"]), r"`Broken.activity` fails: KeyError"),
    "activity_type": (
        lambda: broken(activity=lambda self, state: state),
        r"`Broken.activity` must return one array, got dict",
    ),
    "activity_shape": (
        lambda: broken(activity=lambda self, state: state["v"].sum(1)),
        r"`Broken.activity` returns of shape \(1,\) where",
    ),
    "infinite": (
        lambda: broken(step=lambda self, state, current: {"v": jnp.log(current)}),
        r"`Broken.step` or `Broken.activity` returns NaN or infinity after",
    ),
    "noise_type": (lambda: broken(current_noise=jnp.ones(3)), r"`Broken.current_noise` must be a Python float or"),
    "noise_sign": (lambda: broken(current_noise=-0.1), r"`Broken.current_noise` .* cannot be negative, got -0.1"),
    "random": (
        lambda: broken(step=lambda self, state, current: {"v": 0.5 * state["v"] + current + float(next(counter))}),
        r"`Broken.step` gives another result when asked again",
    ),
    "branch": (lambda: Branch(4), r"`Branch.step` under `jax.jit`, its floats traced, fails: .*no `if` on values"),
    "other_when_compiled": (
        lambda: broken(
            step=lambda self, state, current: {
                "v": 0.5 * state["v"] + current * (2.0 if isinstance(current, jax.core.Tracer) else 1.0)
            }
        ),
        r"`Broken.step` gives another result when it is compiled",
    ),
    "derivative_parameter": (lambda: Root(4), r"with respect to `Root`'s parameters \(.gain\) is NaN or inf.* Guard"),
    "derivative_state": (
        lambda: broken(step=lambda self, state, current: {"v": jnp.sqrt(jnp.abs(state["v"])) + current}),
        r"with respect to the state \(\['v'\]\) is NaN or infinite at the initial state",
    ),
    "mixes_neurons": (
        lambda: broken(step=mean_over(1)),
        r"`Broken.step` mixes neurons: ∂state\['v'\]\[\d\]/∂state\['v'\]\[\d\] = -0.25. .*Move the mixing into a proj",
    ),
    "mixes_currents": (
        lambda: broken(step=lambda self, state, current: {"v": current + jnp.roll(current, 1, axis=1)}),
        r"`Broken.step` mixes neurons: ∂state\['v'\]\[\d\]/∂current\[\d\] = 1\.",
    ),
    "mixes_activities": (
        lambda: broken(activity=lambda self, state: jax.nn.softmax(state["v"], axis=1)),
        r"`Broken.activity` mixes neurons: ∂activity",
    ),
    "mixes_trials": (
        lambda: broken(step=mean_over(0)),
        r"`Broken.step` mixes trials: ∂state\['v'\]\[trial \d, \d\]/∂state\['v'\]\[trial .* = -0.33. .*over no axis",
    ),
    "mixes_without_derivative": (
        lambda: broken(step=winner),
        r"`Broken.step` mixes neurons: another .* changes state\['v'\]\[\d\] by .*, though its derivative is 0",
    ),
    "ignores_current": (
        lambda: broken(step=lambda self, state, current: {"v": 0.5 * state["v"] + 0 * current}),
        r"`Broken.step` ignores its current",
    ),
    "ignores_port": (
        lambda: broken(ports=("a", "b"), step=lambda self, state, current: {"v": 0.5 * state["v"] + current[0]}),
        r"`Broken.step` ignores the current of port 'b'. Leave it out",
    ),
    "not_stateless": (
        lambda: broken(stateless=True),
        r"`Broken` says that it is `stateless`, but another state .* changes its activity after it by",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_neuron_is_told_what_to_mend(case):
    build, message = BROKEN[case]
    with pytest.raises(ContractError, match="(?s)" + message):
        check_neuron(build())


def test_the_neuron_that_the_broken_ones_derive_from_is_right():
    check_neuron(Leaky(4))


def test_a_flaw_between_two_of_many_neurons_is_found():
    def step(self, state, current):
        v = state["v"]
        return {"v": 0.5 * v + current + 1e-4 * jnp.roll(v, 1, axis=1)}

    large = type("Broken", (Leaky,), {"step": step})(180)
    with pytest.raises(ContractError, match="mixes neurons"):
        check_neuron(large)


# ---------------------------------------------------------------- values against equations


def trace(neuron, currents):
    """Activity in each step of one neuron that is driven by `currents`."""
    state, activity = neuron.initial_state(1), []
    for current in currents:
        state = neuron.step(state, jnp.full((1, 1), current))
        activity.append(neuron.activity(state).item())
    return np.array(activity), state


def test_both_orders_of_leak_and_non_linearity():
    currents = [1.0, -2.0, 0.5]
    s = z = 0.3
    for current, filtered, leaky in zip(
        currents,
        trace(LeakyRate(1, alpha=0.25, initial=0.3), currents)[0],
        trace(LeakyRate(1, alpha=0.25, initial=0.3, leak="activity"), currents)[0],
        strict=True,
    ):
        s = 0.75 * s + 0.25 * current
        z = 0.75 * z + 0.25 * np.tanh(current)
        np.testing.assert_allclose([filtered, leaky], [np.tanh(s), z], rtol=1e-12)


def test_lif_spikes_resets_and_rests():
    alpha = np.exp(-1 / 20)
    z, state = trace(LIF(1), [0.6] * 6)
    v, fired, spikes = 0.0, 0.0, []
    for _ in range(6):
        v = alpha * v + 0.6 - fired
        fired = float(v > 1)
        spikes.append(fired)
    assert z.tolist() == spikes and 0 < sum(spikes) < 6
    np.testing.assert_allclose(state.v.item(), v, rtol=1e-12)
    assert trace(LIF(1, refractory=3), [5.0] * 9)[0].tolist() == [1, 0, 0, 1, 0, 0, 1, 0, 0]
    assert trace(LIF(1, refractory=1), [5.0] * 3)[0].tolist() == [1, 1, 1]


def test_alif_fires_less_and_less():
    plain, adaptive = (trace(ALIF(1, beta=beta), [0.6] * 60)[0] for beta in (0.0, 0.5))
    assert plain.tolist() == trace(LIF(1), [0.6] * 60)[0].tolist()
    assert adaptive[30:].sum() < adaptive[:30].sum() < plain[:30].sum()


def wave(shape, start):
    """Numbers that are easy to give to another library: sin(start), sin(start + 1) …"""
    return jnp.sin(start + jnp.arange(np.prod(shape), dtype=float)).reshape(shape)


def gru(bias):
    """A GRU of 3 units alone, with the weights of `GRU_OUTPUTS`."""
    return rg.Network(
        {"gru": GRU(3)},
        [
            rg.Projection("input", "gru", rg.synapses.Dense(wave((9, 2), 1)), ports=GRU.input_ports),
            rg.Projection("gru", "gru", rg.synapses.Dense(wave((9, 3), 101)), delay=1, ports=GRU.recurrent_ports),
            rg.Projection("bias", "gru", rg.synapses.Dense(bias[:, None])),
        ],
        inputs=2,
        readout="gru",
    )


# PyTorch 2.13: `torch.nn.GRU(2, 3)` in float64, its weights `wave((9, 2), 1)` and `wave((9, 3), 101)`, its biases
# `wave((9,), 201)` and `wave((9,), 301)`, its inputs `2 * wave((4, 2, 2), 401)`.
GRU_OUTPUTS = [
    [
        [-0.563828331057885, -0.314737858378111, 0.497570814117897],
        [0.020382915359085, 0.645510022596048, -0.89179150048502],
    ],
    [
        [-0.754576748790749, 0.130965091636227, 0.941620521120653],
        [-0.694912859382399, 0.226194740306307, -0.347245935155252],
    ],
    [
        [-0.641324303205125, 0.261436656226981, 0.142027513417461],
        [-0.712828120214203, 0.597248625434305, 0.794369317354259],
    ],
    [
        [-0.944592442659371, -0.319340490197078, 0.51362811233049],
        [-0.509244947704293, 0.304618407077689, 0.744741178038336],
    ],
]


def test_gru_equals_pytorch():
    b_input, b_recurrent = wave((9,), 201), wave((9,), 301)
    network = gru(jnp.concatenate([(b_input + b_recurrent)[:6], b_input[6:], b_recurrent[6:]]))
    np.testing.assert_allclose(network(2 * wave((4, 2, 2), 401)).outputs, GRU_OUTPUTS, atol=1e-14)


def test_gru_equals_its_equations():
    bias, inputs = wave((12,), 11), wave((4, 2, 2), 21)
    W, R, b = (np.asarray(a) for a in (wave((9, 2), 1), wave((9, 3), 101), bias.reshape(4, 3)))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    h = np.zeros((2, 3))
    for x, output in zip(np.asarray(inputs), np.asarray(gru(bias)(inputs).outputs), strict=True):
        r = sigmoid(x @ W[:3].T + h @ R[:3].T + b[0])
        u = sigmoid(x @ W[3:6].T + h @ R[3:6].T + b[1])
        n = np.tanh(x @ W[6:].T + b[2] + r * (h @ R[6:].T + b[3]))
        h = (1 - u) * n + u * h
        np.testing.assert_allclose(output, h, atol=1e-14)


def test_detached_reset_blocks_that_path_only():
    def slope(neuron):
        state = eqx.tree_at(lambda s: s.v, neuron.initial_state(1), jnp.full((1, 1), 1.1))
        step = lambda v: neuron.step(eqx.tree_at(lambda s: s.v, state, v), jnp.zeros((1, 1))).v  # noqa: E731
        return jax.jvp(step, (state.v,), (jnp.ones((1, 1)),))[1].item()

    alpha, psi = np.exp(-1 / 20), 0.3 * 0.9
    np.testing.assert_allclose(slope(LIF(1)), alpha - psi, rtol=1e-12)
    np.testing.assert_allclose(slope(LIF(1, detach_reset=True)), alpha, rtol=1e-12)


BAD = {
    "size": (lambda: LIF(0), r"`LIF\(size=...\)` must be a positive whole number of neurons, got 0"),
    "tau": (lambda: LIF(2, tau_mem=-1.0), r"`LIF\(tau_mem=...\)` must be positive, got -1.0"),
    "threshold": (lambda: ALIF(2, threshold=0.0), r"`ALIF\(threshold=...\)` must be positive"),
    "refractory": (lambda: ALIF(2, refractory=-1), r"`ALIF\(refractory=...\)` is a number of time steps, 0 or more"),
    "alpha": (lambda: LeakyRate(2, alpha=1.5), r"`LeakyRate\(alpha=...\)` .* in \(0, 1\], got 1.5"),
    "alpha_vector": (
        lambda: LeakyRate(2, alpha=jnp.ones(3)),
        r"one number for each of the 2 neurons, got shape \(3,\)",
    ),
    "activation": (lambda: LeakyRate(2, "tahn"), r"`LeakyRate\(activation='tahn'\)` is unknown; use one of relu"),
    "noise": (lambda: LeakyRate(2, noise=-1.0), r"noise must not be negative"),
    "noise_and_leak": (lambda: LeakyRate(2, leak="activity", noise=1.0), r"acts on a leaky current only"),
    "readout": (lambda: LeakyReadout(2, tau=0.0), r"`LeakyReadout\(tau=...\)` must be positive"),
    "lstm": (lambda: LSTM(-2), r"`LSTM\(size=...\)` must be a positive"),
    "gru": (lambda: GRU(0), r"`GRU\(size=...\)` must be a positive"),
    "linear": (lambda: Linear(0), r"`Linear\(size=...\)` must be a positive"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(case):
    build, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build()


def test_noise_of_the_state_has_the_stated_spread():
    """The stationary variance of s' = (1-α)s + √(2α)σξ is 2σ²/(2-α)."""
    alpha, sigma = 0.2, 0.3
    network = rg.Network(
        {"a": LeakyRate(50, "identity", alpha=alpha, noise=sigma)},
        [rg.Projection("input", "a", rg.synapses.Dense(jnp.zeros((50, 1))))],
        inputs=1,
        readout="a",
    )
    outputs = eqx.filter_jit(network)(jnp.zeros((200, 20, 1)), key=jax.random.key(0)).outputs[100:]
    expected = 2 * sigma**2 / (2 - alpha)
    # Samples are correlated over about 2/α steps.
    standard_error = expected * np.sqrt(2 / (outputs.size / (2 / alpha)))
    assert abs(float(outputs.var()) - expected) < 4 * standard_error
