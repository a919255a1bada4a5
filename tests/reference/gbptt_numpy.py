"""The ensemble's hand-written learning rule in plain NumPy: the oracle of the tests, the peer of the benchmarks.

Every connection is a spike-and-slab variable: absent with probability `pi`, else Gaussian with mean `m` and variance
`xi`. The equations are those of gBPTT, written out as the authors do it: vectorised over the batch, a Python loop over
time, float64. Arrays are `time batch neuron`, weights `post pre`, and vectors are rows: `z @ mu.T`.

It imports nothing of the library, so agreement with it means something.

Source:
    Zou, Li & Huang (2023), Phys. Rev. E 107, 024307, arXiv:2102.03740; the order of clipping, optimiser and
    projection from the authors' public code. Differs from it: the variance is computed as
    `(1-pi)*xi + pi*(1-pi)*m**2`, which cannot go negative, and all noise of a pass is drawn before the loop.
"""

from typing import NamedTuple

import numpy as np

LAYERS = ("input", "recurrent", "output")


class Weights(NamedTuple):
    """One layer of spike-and-slab weights, or a gradient or a moment of the optimiser with the same fields.

    Attributes:
        m: Mean of the slab, `post pre`.
        pi: Probability of absence, `post pre`; `None` makes the layer deterministic, with weight `m`.
        xi: Variance of the slab, `post pre`; `None` as for `pi`.
    """

    m: np.ndarray
    pi: np.ndarray | None = None
    xi: np.ndarray | None = None


class Trajectory(NamedTuple):
    """What the forward pass keeps for the backward pass.

    Attributes:
        state: $s_0 … s_T$, `time+1 batch neuron`.
        activity: $z_0 … z_T$, `time+1 batch neuron`.
        ratio: $\\epsilon_t / D_t$, and 0 where $D_t = 0$; `time batch neuron`.
        outputs: $y_t$ of the last steps, `steps batch output`.
        ratio_out: The same ratio in the output layer, `steps batch output`.
    """

    state: np.ndarray
    activity: np.ndarray
    ratio: np.ndarray
    outputs: np.ndarray
    ratio_out: np.ndarray


class Adam(NamedTuple):
    """State of the optimiser: step count, first and second moments by layer."""

    count: int
    first: dict[str, Weights]
    second: dict[str, Weights]


def moments(weights: Weights) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the mean and the variance of each weight, `post pre`; the variance is `None` if deterministic."""
    m, pi, xi = weights
    if pi is None:
        return m, None
    return (1 - pi) * m, (1 - pi) * xi + pi * (1 - pi) * m**2


def _current(mean, variance, eps):
    """Returns `mean + eps * D` and `eps / D`, with the ratio 0 where `D` is 0."""
    D = np.sqrt(variance)
    return mean + eps * D, np.divide(eps, D, out=np.zeros_like(eps), where=D > 0)


def forward(
    weights: dict[str, Weights],
    inputs: np.ndarray,
    eps: np.ndarray,
    eps_out: np.ndarray,
    *,
    alpha: float,
    initial_state: float | np.ndarray = 0.1,
    state_noise: np.ndarray | None = None,
) -> Trajectory:
    """Runs the mean-field dynamics of the ensemble.

        i_t = z_{t-1} mu_rec' + x_t mu_in' + eps_t * sqrt(z_{t-1}^2 V_rec' + x_t^2 V_in')
        s_t = (1 - alpha) s_{t-1} + alpha i_t + n_t,    z_t = relu(s_t)
        y_t = z_t mu_out' + eps_out_t * sqrt(z_t^2 V_out')

    Args:
        weights: Layers `"input"` (`neuron input`), `"recurrent"` (`neuron neuron`) and `"output"` (`output neuron`).
        inputs: `time batch input`.
        eps: Standard normal draws, `time batch neuron`.
        eps_out: Standard normal draws, `steps batch output`; the last `steps` time steps are read out.
        alpha: Leak, step over time constant [1].
        initial_state: $s_0$, a number or `batch neuron`.
        state_noise: $n_t$, already scaled, `time batch neuron`; `None` for none.

    Returns:
        The trajectory.
    """
    (mu_in, V_in), (mu_rec, V_rec), (mu_out, V_out) = (moments(weights[layer]) for layer in LAYERS)
    time, batch, _ = inputs.shape
    state = np.empty((time + 1, batch, mu_rec.shape[0]))
    activity, ratio = np.empty_like(state), np.empty_like(eps)
    state[0] = initial_state
    activity[0] = np.maximum(state[0], 0)
    for t in range(time):
        x, z = inputs[t], activity[t]
        mean = z @ mu_rec.T + x @ mu_in.T
        variance = np.square(z) @ V_rec.T
        if V_in is not None:
            variance += np.square(x) @ V_in.T
        current, ratio[t] = _current(mean, variance, eps[t])
        state[t + 1] = (1 - alpha) * state[t] + alpha * current
        if state_noise is not None:
            state[t + 1] += state_noise[t]
        np.maximum(state[t + 1], 0, out=activity[t + 1])
    read = activity[time + 1 - len(eps_out) :]
    outputs, ratio_out = _current(read @ mu_out.T, np.square(read) @ V_out.T, eps_out)
    return Trajectory(state, activity, ratio, outputs, ratio_out)


def cross_entropy(outputs: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the cross-entropy, mean over steps and batch, and its derivative.

    Args:
        outputs: `steps batch class`.
        labels: Integers, `steps batch`.

    Returns:
        The loss, and its derivative with respect to `outputs`, `steps batch class`.
    """
    shifted = outputs - outputs.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    target = labels[..., None] == np.arange(outputs.shape[-1])
    return -log_probability[target].mean(), (np.exp(log_probability) - target) / labels.size


def _chain(weights, g_mu, g_V):
    """Turns the derivatives with respect to the two moments into those with respect to `m`, `pi`, `xi`."""
    m, pi, xi = weights
    if pi is None:
        return Weights(g_mu)
    return Weights(
        m=(1 - pi) * g_mu + 2 * pi * (1 - pi) * m * g_V,
        pi=-m * g_mu + ((1 - 2 * pi) * m**2 - xi) * g_V,
        xi=(1 - pi) * g_V,
    )


def backward(
    weights: dict[str, Weights], inputs: np.ndarray, trajectory: Trajectory, error: np.ndarray, *, alpha: float
) -> dict[str, Weights]:
    """Runs the adjoint recursion backwards in time and returns the gradient by layer.

        d_t = (1 - alpha) d_{t+1} + relu'_t * [ alpha (d_{t+1} mu_rec + z_t * ((d_{t+1} * eps_{t+1}/D_{t+1}) V_rec))
                                               + e_t mu_out + z_t * ((e_t * eps_out_t/D_out_t) V_out) ]
        A = sum_t d_t (x) p_t,    C = sum_t (d_t * eps_t/D_t) (x) p_t^2,    dL/dmu = alpha A,    dL/dV = alpha C / 2

    with `p = z_{t-1}` for the recurrent and `p = x_t` for the input layer; in the output layer `d` is `e` and `alpha`
    is 1.

    Args:
        weights: As in `forward`.
        inputs: As in `forward`.
        trajectory: What `forward` returned.
        error: $e_t = ∂L/∂y_t$, `steps batch output`. Sums over the batch are taken as they are, so a mean over the
            batch belongs into `error`.
        alpha: As in `forward`.

    Returns:
        The gradient with respect to `m`, `pi` and `xi` of each layer.
    """
    (_, V_in), (mu_rec, V_rec), (mu_out, V_out) = (moments(weights[layer]) for layer in LAYERS)
    _, activity, ratio, _, ratio_out = trajectory
    time, steps = len(inputs), len(error)
    A_in, C_in = np.zeros_like(weights["input"].m), np.zeros_like(weights["input"].m)
    A_rec, C_rec = np.zeros_like(mu_rec), np.zeros_like(mu_rec)
    A_out, C_out = np.zeros_like(mu_out), np.zeros_like(mu_out)
    d, d_ratio = np.zeros_like(activity[0]), np.zeros_like(activity[0])
    for t in range(time, 0, -1):
        z = activity[t]
        back = alpha * (d @ mu_rec + z * (d_ratio @ V_rec))
        if t > time - steps:
            e = error[t - 1 - time + steps]
            e_ratio = e * ratio_out[t - 1 - time + steps]
            back += e @ mu_out + z * (e_ratio @ V_out)
            A_out += e.T @ z
            C_out += e_ratio.T @ np.square(z)
        d = (1 - alpha) * d + (z > 0) * back
        d_ratio = d * ratio[t - 1]
        x, z = inputs[t - 1], activity[t - 1]
        A_rec += d.T @ z
        C_rec += d_ratio.T @ np.square(z)
        A_in += d.T @ x
        if V_in is not None:
            C_in += d_ratio.T @ np.square(x)
    return {
        "input": _chain(weights["input"], alpha * A_in, 0.5 * alpha * C_in),
        "recurrent": _chain(weights["recurrent"], alpha * A_rec, 0.5 * alpha * C_rec),
        "output": _chain(weights["output"], A_out, 0.5 * C_out),
    }


def _map(function, *trees):
    """Applies a function to every array of dictionaries of `Weights`."""
    return {
        layer: Weights(*(None if a[0] is None else function(*a) for a in zip(*(t[layer] for t in trees), strict=True)))
        for layer in trees[0]
    }


def clip(gradient: dict[str, Weights], limit: float = 10.0) -> dict[str, Weights]:
    """Scales each matrix down to a largest singular value of `limit`.

    The Frobenius norm bounds the largest singular value, so the decomposition is made only where it can matter.
    """

    def clip_matrix(g):
        if np.linalg.norm(g) <= limit:
            return g
        return g * min(1.0, limit / np.linalg.norm(g, 2))

    return _map(clip_matrix, gradient)


def adam_init(weights: dict[str, Weights]) -> Adam:
    """Returns the optimiser's state before the first update."""
    return Adam(0, _map(np.zeros_like, weights), _map(np.zeros_like, weights))


def adam(
    weights: dict[str, Weights],
    gradient: dict[str, Weights],
    state: Adam,
    *,
    learning_rate: float = 1e-3,
    decay: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.999),
) -> tuple[dict[str, Weights], Adam]:
    """Makes one step of Adam with decoupled decay of `m` and `xi`, none of `pi`, and `1e-8` outside the root."""
    count = state.count + 1
    first = _map(lambda a, g: betas[0] * a + (1 - betas[0]) * g, state.first, gradient)
    second = _map(lambda a, g: betas[1] * a + (1 - betas[1]) * g * g, state.second, gradient)
    unbias_first, unbias_second = 1 / (1 - betas[0] ** count), 1 / (1 - betas[1] ** count)

    def step(w, a, b):
        return learning_rate * (unbias_first * a / (np.sqrt(unbias_second * b) + 1e-8))

    change = _map(step, weights, first, second)
    decayed = {
        layer: w._replace(m=(1 - learning_rate * decay) * w.m, xi=_scale(w.xi, 1 - learning_rate * decay))
        for layer, w in weights.items()
    }
    return _map(np.subtract, decayed, change), Adam(count, first, second)


def _scale(array, factor):
    return None if array is None else factor * array


def project(weights: dict[str, Weights]) -> dict[str, Weights]:
    """Puts `pi` back into [0, 1] and `xi` to at least 0: exactly 0 and 1 do occur, and they mean something."""
    return {
        layer: w if w.pi is None else w._replace(pi=np.clip(w.pi, 0, 1), xi=np.maximum(w.xi, 0))
        for layer, w in weights.items()
    }


def gradient(
    weights: dict[str, Weights],
    inputs: np.ndarray,
    labels: np.ndarray,
    eps: np.ndarray,
    eps_out: np.ndarray,
    *,
    alpha: float,
    initial_state: float | np.ndarray = 0.1,
) -> tuple[float, dict[str, Weights]]:
    """Returns the cross-entropy of the last steps (labels are `steps batch`) and its gradient by layer."""
    trajectory = forward(weights, inputs, eps, eps_out, alpha=alpha, initial_state=initial_state)
    loss, error = cross_entropy(trajectory.outputs, labels)
    return loss, backward(weights, inputs, trajectory, error, alpha=alpha)


def update(
    weights: dict[str, Weights],
    state: Adam,
    inputs: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    alpha: float = 0.1,
    initial_state: float = 0.1,
    learning_rate: float = 1e-3,
    decay: float = 1e-4,
    limit: float = 10.0,
) -> tuple[dict[str, Weights], Adam, float]:
    """Makes one update of the ensemble: noise, gradient, clipping, Adam, projection.

    Args:
        weights: As in `forward`.
        state: The optimiser's state.
        inputs: `time batch input`.
        labels: Integers, `steps batch`.
        rng: Where the noise comes from.
        alpha: Leak [1].
        initial_state: State of every neuron before the first step.
        learning_rate: Adam's.
        decay: Decoupled decay of `m` and `xi`.
        limit: Largest singular value a gradient may have.

    Returns:
        The new weights, the new state of the optimiser, and the loss before the update.
    """
    eps = rng.standard_normal((*inputs.shape[:2], len(weights["recurrent"].m)))
    eps_out = rng.standard_normal((*labels.shape, len(weights["output"].m)))
    loss, g = gradient(weights, inputs, labels, eps, eps_out, alpha=alpha, initial_state=initial_state)
    weights, state = adam(weights, clip(g, limit), state, learning_rate=learning_rate, decay=decay)
    return project(weights), state, loss


def random_case(seed, *, time=7, batch=4, inputs=3, neurons=5, outputs=3, steps=2, deterministic_input=False):
    """A small case with noise, partial absence and readout of the last `steps` time steps."""
    rng = np.random.default_rng(seed)

    def layer(post, pre):
        m = rng.normal(size=(post, pre)) / np.sqrt(pre)
        return Weights(m, rng.uniform(0, 0.9, (post, pre)), rng.uniform(0, 0.3, (post, pre)))

    first = layer(neurons, inputs)
    return {
        "weights": {
            "input": Weights(first.m) if deterministic_input else first,
            "recurrent": layer(neurons, neurons),
            "output": layer(outputs, neurons),
        },
        "inputs": rng.uniform(0.1, 1, (time, batch, inputs)),
        "labels": rng.integers(outputs, size=(steps, batch)),
        "eps": rng.normal(size=(time, batch, neurons)),
        "eps_out": rng.normal(size=(steps, batch, outputs)),
        "alpha": 0.3,
        "initial_state": 0.1,
    }


def golden_case() -> dict:
    """Returns the arguments of `gradient` for which `golden/zou2023.json` gives the result.

    Every array is filled in C order by its flat index $k$; inputs and noise have the batch last there, and are
    transposed here.
    """

    def fill(function, *shape):
        return function(np.arange(np.prod(shape), dtype=float)).reshape(shape)

    def layer(post, pre):
        return Weights(
            m=fill(lambda k: 0.5 * np.sin(k + 1), post, pre),
            pi=fill(lambda k: 0.5 + 0.4 * np.sin(2 * k + 1), post, pre),
            xi=fill(lambda k: 0.1 + 0.05 * np.cos(k), post, pre),
        )

    return {
        "weights": {"input": layer(3, 2), "recurrent": layer(3, 3), "output": layer(2, 3)},
        "inputs": fill(lambda k: 0.5 + 0.5 * np.sin(3 * k + 1), 3, 2, 2).swapaxes(1, 2),
        "labels": np.array([[0, 1]]),
        "eps": fill(lambda k: 1.5 * np.sin(5 * k + 2), 3, 3, 2).swapaxes(1, 2),
        "eps_out": fill(lambda k: np.cos(7 * k + 1), 1, 2, 2).swapaxes(1, 2),
        "alpha": 0.5,
        "initial_state": 0.1,
    }
