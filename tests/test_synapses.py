"""Our synapses keep the contract and agree with NumPy; synapses that break it are told where and how."""

import dataclasses
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import integrate, stats
from zoo import SYNAPSES

from retrograde.synapses import AbstractSynapse as Synapse
from retrograde.synapses import Dale, Dense, Diagonal, Identity, Masked, Moments, SpikeAndSlab, Tied
from retrograde.testing import ContractError, check_synapse

CLOSE = {"rtol": 1e-12, "atol": 1e-14}


def ensemble(key=0, shape=(4, 3)):
    """Every kind of weight: uncertain ones, certain, absent, and purely Gaussian."""
    m_key, pi_key, xi_key = jr.split(jr.key(key), 3)
    pi = jr.uniform(pi_key, shape) * 0.9
    xi = jr.uniform(xi_key, shape) * 0.5
    pi = pi.at[0].set(jnp.array([0.0, 1.0, 0.0]))
    xi = xi.at[0].set(jnp.array([0.0, 0.3, 0.4]))
    return SpikeAndSlab(jr.normal(m_key, shape), pi, xi)


OURS = {name: make(jr.key(0), (4, 3)) for name, make in SYNAPSES.items()} | {
    "edges": ensemble(),
    "diagonal": Diagonal(jnp.arange(3.0)),
    "identity": Identity(3),
    "dale": Dale(jnp.array([[1.0, -2.0], [0.5, 3.0]]), [1, -1]),
    "masked_ensemble": Masked(ensemble(), np.arange(12).reshape(4, 3) % 2 == 0, jnp.full((4, 3), 0.7)),
    "masked_diagonal": Masked(Diagonal(jnp.arange(3.0)), np.array([True, False, True]), 2.0),
    "masked_twice": Masked(Masked(Dense(jnp.ones((2, 2))), np.eye(2, dtype=bool)), np.eye(2) == 0, 3.0),
    "tied": Tied("elsewhere", 2, 3),
}


@pytest.mark.parametrize("synapse", OURS)
def test_our_synapses_keep_the_contract(synapse):
    check_synapse(OURS[synapse])


# ---------------------------------------------------------------- one broken synapse for each message


class Matrix(Synapse):
    """A right synapse; the broken ones differ in one thing."""

    weight: jax.Array

    @property
    def shape(self):
        return self.weight.shape

    def moments(self):
        return Moments(self.weight)


class Gauss(Synapse):
    """A right random synapse."""

    mean: jax.Array
    spread: jax.Array

    @property
    def shape(self):
        return self.mean.shape

    def moments(self):
        return Moments(self.mean, self.spread**2)

    def sample(self, key):
        return Moments(self.mean + self.spread * jr.normal(key, self.mean.shape, self.mean.dtype))


def broken(base=Matrix, **members):
    fields = len(dataclasses.fields(base))
    return type("Broken", (base,), members)(*(jnp.array([[0.5, 1.0], [1.5, -1.0], [2.0, 0.3]]) for _ in range(fields)))


class Text(Matrix):
    kind: str = "fast"


class Scaled(Matrix):
    scale: float = 2.0

    def moments(self):
        return Moments(self.weight * (2.0 if self.scale > 1 else 1.0))


@jax.custom_jvp
def stand_in(x):
    return jnp.round(x)


stand_in.defjvps(lambda tangent, value, x: tangent)


def one_draw_for_each_row(self, key):
    draw = jr.normal(key, (self.mean.shape[0], 1), self.mean.dtype)
    return Moments(self.mean + self.spread * draw)


BROKEN = {
    "no_synapse": (lambda: object(), r"`object` is not a synapse: derive it from"),
    "shape": (
        lambda: broken(shape=(3,)),
        r"`Broken.shape` must be two positive .* \(post, pre\), got \(3,\)",
    ),
    "shape_fails": (lambda: broken(shape=property(lambda self: self.size)), r"`Broken.shape` fails: AttributeError"),
    "text_field": (lambda: Text(jnp.ones((3, 2))), r"`Text.kind` is 'fast', which is no number"),
    "constants": (
        lambda: broken(constants=("fil",)),
        r"`Broken.constants` names 'fil', but .* no such field",
    ),
    "moments_fail": (lambda: broken(moments=lambda self: self.weights), r"`Broken.moments` fails: AttributeError"),
    "no_moments": (lambda: broken(moments=lambda self: self.weight), r"`Broken.moments` must return `Moments"),
    "mean_shape": (
        lambda: broken(moments=lambda self: Moments(self.weight.T)),
        r"`Broken.moments`: `mean` has shape \(2, 3\), but `shape` says \(post, pre\) = \(3, 2\)",
    ),
    "variance_shape": (
        lambda: broken(moments=lambda self: Moments(self.weight, jnp.ones(3, self.weight.dtype))),
        r"`variance` has shape \(3,\), `mean` has \(3, 2\)",
    ),
    "moments_dtype": (
        lambda: broken(moments=lambda self: Moments(self.weight.astype(jnp.float64))),
        r"`mean` has type float64, the parameters have float32",
    ),
    "infinite": (
        lambda: broken(moments=lambda self: Moments(jnp.log(self.weight))),
        r"`Broken.moments`: `mean` contains NaN or infinity",
    ),
    "negative": (
        lambda: broken(moments=lambda self: Moments(self.weight, self.weight)),
        r"`Broken.moments`: a variance is negative, -1. Write it as a sum",
    ),
    "variance_lost": (
        lambda: broken(Gauss, current=lambda self, pre: (pre @ self.mean.T, None)),
        r"`Broken.current` gives no variance, `moments` one",
    ),
    "current_fails": (
        lambda: broken(current=lambda self, pre: self.weight @ pre),
        r"`Broken.current` fails: TypeError",
    ),
    "current_shape": (
        lambda: broken(current=lambda self, pre: (pre @ self.weight.T @ self.weight, None)),
        r"`Broken.current`: `mean` has shape \(3, 2\) where activity of shape \(3, 2\) must give \(3, 3\)",
    ),
    "current_dtype": (
        lambda: broken(current=lambda self, pre: ((pre @ self.weight.T).astype(jnp.float64), None)),
        r"`Broken.current`: `mean` has type float64 where activity and parameters have float32",
    ),
    "not_linear": (
        lambda: broken(current=lambda self, pre: (jnp.tanh(pre @ self.weight.T), None)),
        r"`mean` is not linear in `pre`: the current of a sum .* off by .* into the neuron",
    ),
    "another_current": (
        lambda: broken(current=lambda self, pre: (2.0 * pre @ self.weight.T, None)),
        r"`mean` is not `moments\(\).mean · pre`, off by",
    ),
    "variance_not_quadratic": (
        lambda: broken(Gauss, current=lambda self, pre: (pre @ self.mean.T, jnp.abs(pre) @ (self.spread**2).T)),
        r"`variance` is not linear in `pre²`, off by",
    ),
    "another_variance": (
        lambda: broken(Gauss, current=lambda self, pre: (pre @ self.mean.T, pre**2 @ (2.0 * self.spread**2).T)),
        r"`variance` is not `moments\(\).variance · pre²`, off by",
    ),
    "no_sample": (
        lambda: broken(Gauss, sample=Synapse.sample),
        r"`Broken.sample` fails: NotImpl.*must define",
    ),
    "sample_with_variance": (
        lambda: broken(Gauss, sample=lambda self, key: self.moments()),
        r"`Broken.sample` must return `Moments\(weights\)` .* no variance",
    ),
    "sample_dtype": (
        lambda: broken(Gauss, sample=lambda self, key: Moments(self.mean.astype(jnp.float32))),
        r"`Broken.sample` draws weights of type float32 where the moments have float64",
    ),
    "same_weights": (
        lambda: broken(Gauss, sample=lambda self, key: Moments(self.mean)),
        r"`Broken.sample` gives the same weights for another key",
    ),
    "unseeded": (
        lambda: broken(Gauss, sample=lambda self, key: Moments(self.mean + np.random.default_rng().normal())),
        r"gives another result when asked again with the same key",
    ),
    "branch": (lambda: Scaled(jnp.ones((3, 2))), r"under `jax.jit` fails: .*no `if` on values"),
    "other_when_compiled": (
        lambda: broken(moments=lambda self: Moments(self.weight + float(isinstance(self.weight, jax.core.Tracer)))),
        r"gives another result when it is compiled",
    ),
    "certain_weight_varies": (
        lambda: broken(sample=lambda self, key: Moments(self.weight + jr.normal(key, self.weight.shape))),
        r"`Broken.sample` draws a weight .* that differs from its mean by .* gives it no variance",
    ),
    "sample_mean": (
        lambda: broken(Gauss, sample=lambda self, key: Moments(0.1 + Gauss.sample(self, key).mean)),
        r"`Broken.sample`: over 4000 draws the mean of weight .* is off by .* standard errors from `moments`",
    ),
    "sample_variance": (
        lambda: broken(Gauss, sample=lambda self, key: Moments(2.0 * Gauss.sample(self, key).mean - self.mean)),
        r"`Broken.sample`: over 4000 draws the variance of weight .* is .*, not .* standard errors",
    ),
    "rows_together": (
        lambda: broken(Gauss, sample=one_draw_for_each_row),
        r"the variance of row .* Are the weights of a row drawn independently\?",
    ),
    "project_structure": (
        lambda: broken(project=lambda self: Dense(self.weight)),
        r"`Broken.project` changes the structure, a shape or a type",
    ),
    "project_fails": (lambda: broken(project=lambda self: self.clip()), r"`Broken.project` fails: AttributeError"),
    "project_not_idempotent": (
        lambda: broken(project=lambda self: eqx.tree_at(lambda s: s.weight, self, 0.9 * self.weight)),
        r"`Broken.project` is not idempotent",
    ),
    "project_leaves_negative": (
        lambda: broken(Gauss, moments=lambda self: Moments(self.mean, 1.01 + self.spread**3)),
        r"`Broken.project` leaves parameters whose variance is negative",
    ),
    "derivative": (
        lambda: broken(moments=lambda self: Moments(jnp.sqrt(self.weight - jax.lax.stop_gradient(self.weight)))),
        r"derivative of `Broken.moments` with respect to `weight` is NaN or infinite",
    ),
    "stand_in": (
        lambda: broken(moments=lambda self: Moments(stand_in(3.3 * self.weight))),
        r"with respect to `weight` is .* where finite differences give 0.*pass `smooth=False`",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_synapse_is_told_what_to_mend(case):
    build, message = BROKEN[case]
    with pytest.raises(ContractError, match="(?s)" + message):
        check_synapse(build())


def test_the_synapses_that_the_broken_ones_derive_from_are_right():
    check_synapse(broken())
    check_synapse(broken(Gauss))
    check_synapse(BROKEN["stand_in"][0](), smooth=False)


# ---------------------------------------------------------------- spike and slab


def test_sampled_weights_have_the_moments():
    synapse, draws = ensemble(), 200_000

    @jax.jit
    def sums(keys):
        def add(total, key):
            weight = synapse.sample(key).mean
            off = weight - synapse.moments().mean
            return jax.tree.map(jnp.add, total, (off, off**2, off**4)), None

        return jax.lax.scan(add, (jnp.zeros(synapse.shape),) * 3, keys)[0]

    off, square, fourth = (np.asarray(s) / draws for s in sums(jr.split(jr.key(1), draws)))
    moments = synapse.moments()
    assert (np.abs(off) <= 4 * np.sqrt(square / draws) + 1e-12).all()
    error = np.sqrt((fourth - square**2) / draws)
    assert (np.abs(square - moments.variance) <= 4 * error + 1e-12).all()
    m, pi, xi = map(np.asarray, (synapse.m, synapse.pi, synapse.xi))
    rho = (1 - pi) * (xi + m**2)
    np.testing.assert_allclose(moments.mean, (1 - pi) * m, **CLOSE)
    np.testing.assert_allclose(moments.variance, rho - ((1 - pi) * m) ** 2, **CLOSE)
    assert moments.variance[0, 0] == 0 and moments.variance[0, 1] == 0


def test_the_variance_is_not_negative_in_float32():
    """ϱ - μ² cancels there; the sum of positive terms does not."""
    m = jnp.linspace(1.0, 300.0, 2000, dtype=jnp.float32)[None]
    synapse = SpikeAndSlab(m, jnp.full_like(m, 1e-7), jnp.full_like(m, 1e-6))
    assert float(synapse.moments().variance.min()) > 0
    present = 1 - synapse.pi
    assert float((present * (synapse.xi + m**2) - (present * m) ** 2).min()) <= 0


def test_a_sum_of_sampled_weights_is_normal():
    """The current of 1,000 random rates is N(G, D²) by the central limit theorem."""
    keys = jr.split(jr.key(0), 5)
    shape = (1, 1000)
    synapse = SpikeAndSlab(
        jr.normal(keys[0], shape) / 1000**0.5, jr.uniform(keys[1], shape), jr.uniform(keys[2], shape) * 1e-3
    )
    pre = jr.uniform(keys[3], (1, 1000))
    draws = jax.jit(lambda keys: jax.lax.map(lambda k: synapse.sample(k)(pre)[0][0, 0], keys))(jr.split(keys[4], 5000))
    mean, variance = synapse.current(pre)
    standard = (np.asarray(draws) - mean.item()) / variance.item() ** 0.5
    assert stats.kstest(standard, "norm").pvalue > 0.01


def test_updates_with_projection_stay_in_range_and_reach_its_ends():
    shape = (6, 5)

    @jax.jit
    def update(synapse, key):
        m, pi, xi = jr.split(key, 3)
        moved = (
            synapse.m + jr.normal(m, shape),
            synapse.pi + 0.2 * jr.normal(pi, shape),
            synapse.xi - jr.normal(xi, shape),
        )
        return eqx.tree_at(lambda s: (s.m, s.pi, s.xi), synapse, moved).project()

    synapse, ends = SpikeAndSlab(jnp.zeros(shape), jnp.full(shape, 0.5), jnp.ones(shape)), []
    for key in jr.split(jr.key(0), 100):
        synapse = update(synapse, key)
        assert synapse.pi.min() >= 0 and synapse.pi.max() <= 1 and synapse.xi.min() >= 0
        ends.append([bool((synapse.pi == 0).any()), bool((synapse.pi == 1).any()), bool((synapse.xi == 0).any())])
    assert np.any(ends, axis=0).all()
    assert float(jnp.abs(synapse.m).max()) > 1, "the slab's mean is free"


def test_connections_that_matter():
    pi = jnp.array([[0.0, 0.0, 1.0, 0.1, 0.1, 0.11, 0.05]])
    xi = jnp.array([[0.0, 0.1, 0.0, 0.05, 0.05, 0.05, 0.1]])
    m = jnp.array([[0.05, 0.5, 0.5, -0.2, 0.08, 0.2, 0.2]])
    synapse = SpikeAndSlab(m, pi, xi)
    assert synapse.certain().tolist() == [[True, False, False, False, False, False, False]]
    assert synapse.absent().tolist() == [[False, False, True, False, False, False, False]]
    assert synapse.important().tolist() == [[False, False, False, True, False, False, False]]
    assert synapse.important(max_pi=0.2, max_xi=0.2, min_m=0.01).tolist() == [
        [True, True, False, True, True, True, True]
    ]


def test_entropies():
    pi = jnp.array([[0.0, 1.0, 0.5, 0.25]])
    xi = jnp.array([[0.0, 1e-4, 0.3, 2.0]])
    synapse = SpikeAndSlab(jnp.ones((1, 4)), pi, xi)
    np.testing.assert_allclose(synapse.discrete_entropy()[0], [0, 0, np.log(2), 0.5623351446188083], **CLOSE)
    floored = np.maximum(np.asarray(xi), 1e-4)
    np.testing.assert_allclose(synapse.continuous_entropy(), [stats.norm(0, floored[0] ** 0.5).entropy()], **CLOSE)
    wide = synapse.continuous_entropy(floor=1.0)[0]
    np.testing.assert_allclose(wide[:3], np.full(3, 0.5 * np.log(2 * np.pi) + 0.5), **CLOSE)


def test_entropy_agrees_with_numerical_integration():
    """The spike's term is a point at 0; the slab's an integral over its Gaussian."""
    cases = [(0.5, 0.3, 0.4), (0.0, 0.5, 0.01), (-1.0, 0.0, 0.2), (0.3, 1.0, 0.1), (0.1, 0.9, 1.0)]
    floor, samples = 1e-2, 20_000
    synapse = SpikeAndSlab(*(jnp.array([[case[i] for case in cases]]) for i in range(3)))
    found = jax.jit(lambda s: s.entropy(jr.key(0), samples=samples, floor=floor))(synapse)[0]
    for (m, pi, xi), value in zip(cases, found, strict=True):
        slab, spike = stats.norm(m, max(xi, floor) ** 0.5), stats.norm(0, floor**0.5)
        density = lambda w, pi=pi, slab=slab, spike=spike: pi * spike.pdf(w) + (1 - pi) * slab.pdf(w)  # noqa: E731
        log = lambda w, density=density: np.log(np.maximum(density(w), 1e-300))  # noqa: E731
        moments = [
            integrate.quad(
                lambda w, p=p, log=log, slab=slab: slab.pdf(w) * log(w) ** p, *slab.interval(1 - 1e-12), limit=300
            )[0]
            for p in (1, 2)
        ]
        expected = -pi * log(0.0) - (1 - pi) * moments[0]
        error = (1 - pi) * np.sqrt(max(moments[1] - moments[0] ** 2, 0) / samples)
        assert abs(value - expected) <= 5 * error + 1e-6
    np.testing.assert_allclose(found[2], stats.norm(0, 0.2**0.5).entropy(), atol=0.03)


# ---------------------------------------------------------------- the others against NumPy


def test_values_against_numpy():
    weight = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]])
    pre = np.arange(24.0).reshape(4, 2, 3) - 7
    dale = Dale(jnp.asarray(weight), [1, -1, -1])
    np.testing.assert_allclose(dale.current(jnp.asarray(pre))[0], pre @ (np.abs(weight) * [1, -1, -1]).T, **CLOSE)
    mask, fill = weight > 0, np.full((2, 3), 0.25)
    masked = Masked(Dense(jnp.asarray(weight)), mask, jnp.asarray(fill))
    np.testing.assert_allclose(masked.current(jnp.asarray(pre))[0], pre @ np.where(mask, weight, fill).T, **CLOSE)
    np.testing.assert_allclose(Identity(3).current(jnp.asarray(pre))[0], pre, **CLOSE)
    diagonal = Diagonal(jnp.array([1.0, 2.0, -3.0]))
    np.testing.assert_allclose(diagonal.current(jnp.asarray(pre))[0], pre @ np.diag([1.0, 2.0, -3.0]), **CLOSE)
    assert diagonal.shape == Identity(3).shape == (3, 3)
    half = Masked(diagonal, np.array([False, True, True]), 9.0)
    np.testing.assert_allclose(half.current(jnp.asarray(pre))[0], pre @ np.diag([9.0, 2.0, -3.0]), **CLOSE)
    moments = Moments(jnp.asarray(weight), jnp.asarray(weight**2)).transpose()
    np.testing.assert_array_equal(moments.mean, weight.T)
    np.testing.assert_array_equal(moments.variance, weight.T**2)


def test_masked_entries_neither_fluctuate_nor_learn():
    mask = np.array([[True, False, True]] * 4)
    masked = Masked(ensemble(), mask, 0.5)
    drawn = masked.sample(jr.key(0)).mean
    np.testing.assert_array_equal(drawn, np.where(mask, masked.synapse.sample(jr.key(0)).mean, 0.5))
    assert not masked.moments().variance[:, 1].any() and masked.moments().variance[1:, 0].all()
    gradient = eqx.filter_grad(lambda s: sum(map(jnp.sum, jax.tree.leaves(s.moments()))))(masked)
    for leaf in (gradient.synapse.m, gradient.synapse.pi, gradient.synapse.xi):
        assert not leaf[:, 1].any()
    assert gradient.synapse.m[1:, 0].all()


def test_a_tie_is_resolved_by_the_network_only():
    with pytest.raises(TypeError, match=r"`Tied\(to='a->b'\)` has no weights of its own; `Network.moments\(\)`"):
        Tied("a->b", 2, 3).moments()
    with pytest.raises(ValueError, match=r"`Masked\(Tied\(...\)\)` has no weights to mask"):
        Masked(Tied("a->b", 2, 3), np.ones((2, 3), bool))


def test_random_weights_without_a_sampler_say_so():
    class Unsampled(Matrix):
        def moments(self):
            return Moments(self.weight, self.weight**2)

    with pytest.raises(NotImplementedError, match=r"`Unsampled` has random weights, so it must define `sample`"):
        Unsampled(jnp.ones((2, 2))).sample(jr.key(0))


def test_bad_arguments_are_refused_in_our_words():
    """In a process of its own: under the tests' hook jaxtyping refuses the shapes first, which users do not have."""
    script = """
        import jax.numpy as jnp, numpy as np
        from retrograde.synapses import *
        one, two = jnp.ones(3), jnp.ones((2, 3))
        for make in (
            lambda: Dense(one),
            lambda: Diagonal(two),
            lambda: SpikeAndSlab(one, one, one),
            lambda: SpikeAndSlab(two, two.T, two),
            lambda: SpikeAndSlab(two, two, one),
            lambda: Dale(one, [1, 1, 1]),
            lambda: Dale(two, [1, 1]),
            lambda: Dale(two, [1, 0, -1]),
            lambda: Masked(Dense(two), np.ones((3, 2), bool)),
            lambda: Masked(Dense(two), np.ones((2, 3))),
            lambda: Masked(Dense(two), np.ones((2, 3), bool), one),
        ):
            try:
                make()
                print("accepted")
            except ValueError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        '`Dense(weight=...)` must have axes "post pre", got an array of shape (3,).',
        '`Diagonal(weight=...)` must have axes "neuron", got an array of shape (2, 3).',
        '`SpikeAndSlab(m=...)` must have axes "post pre", got an array of shape (3,).',
        "`SpikeAndSlab(pi=...)` must have the shape of `m`, (2, 3), got (3, 2).",
        "`SpikeAndSlab(xi=...)` must have the shape of `m`, (2, 3), got (3,).",
        '`Dale(weight=...)` must have axes "post pre", got an array of shape (3,).',
        "`Dale(sign=...)` needs +1 or -1 for each of the 3 presynaptic neurons, got array([1, 1]).",
        "`Dale(sign=...)` needs +1 or -1 for each of the 3 presynaptic neurons, got array([ 1,  0, -1]).",
        "`Masked(mask=...)` must be boolean of shape (2, 3), the shape of the weights, got bool of shape (3, 2).",
        "`Masked(mask=...)` must be boolean of shape (2, 3), the shape of the weights, got float32 of shape (2, 3).",
        "`Masked(fill=...)` must be one number or an array of shape (2, 3), got (3,).",
    ]
