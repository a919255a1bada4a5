"""The network that reads digits pixel by pixel in `retrograde reproduce yin2021`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from retrograde import papers
from retrograde.papers.yin2021 import _ecg as ecg
from retrograde.papers.yin2021 import _pixels as pixels


def test_it_has_the_published_size():
    assert ecg.sizes(pixels.network(jr.key(0))) == (155082, 1172)


def test_it_is_the_papers_equations_written_out():
    """Time step by time step, layer by layer, with biases that are not zero; the answer are the readout's spikes."""
    layers = {"first": (3, True), "second": (5, True), "third": (4, False)}
    network = pixels.network(jr.key(0), layers, classes=2)
    drawn, rest = eqx.partition(network, network.trainable())
    generator = np.random.default_rng(0)
    drawn = jax.tree.map(lambda x: jnp.asarray(np.asarray(x) + 0.3 * generator.normal(size=x.shape)), drawn)
    network = eqx.combine(drawn, rest)
    inputs = generator.uniform(size=(40, 6, 1))
    found = eqx.filter_jit(network)(jnp.asarray(inputs))

    weight = {name: np.asarray(p.synapse.weight) for name, p in network.projections.items() if name != "readout->count"}
    below = dict(zip([*layers, "readout"], ["input", *layers], strict=True))
    state = {}
    for name in below:
        size = network.populations[name].size
        state[name] = np.full((6, size), 0.5), np.full((6, size), 0.01), np.ones((6, size))
    count = np.zeros((6, 2))
    for activity in inputs:
        for name, source in below.items():
            u, b, z = state[name]
            current = activity @ weight[f"{source}->{name}"].T + weight[f"bias of {name}"].T
            if f"{name}->{name}" in weight:
                current += z @ weight[f"{name}->{name}"].T + weight[f"bias of recurrence of {name}"].T
            alpha = np.exp(-1 / np.asarray(network.populations[name].tau_mem))
            rho = np.exp(-1 / np.asarray(network.populations[name].tau_adapt))
            b = rho * b + (1 - rho) * z
            threshold = 0.01 + 1.8 * b
            u = alpha * u + (1 - alpha) * current - threshold * z
            activity = (u > threshold).astype(float)
            state[name] = u, b, activity
        count += activity
    assert 20 < count.sum() < 0.8 * 40 * 6 * 2
    assert np.abs(found.outputs[-1] - count).max() == 0
    assert np.abs(found.state.neurons["third"].u - state["third"][0]).max() < 1e-12


@pytest.mark.slow
def test_in_small_it_is_trained_measured_and_drawn(tmp_path):
    """On the digits that come with the package, so that no data need be there."""
    paper = papers.read_paper("yin2021")
    outcomes = papers.reproduce(paper, tmp_path / "out", scale="smoke", seeds=1, claims=["pixels"])
    (outcome,) = (outcome for outcome in outcomes if outcome.claim.key == "pixels")
    verdicts = {judged.band.quantity: judged.verdict for judged in outcome.judged}
    assert {name for name, verdict in verdicts.items() if verdict == "reached"} == {"weights", "constants"}
    assert set(verdicts.values()) == {"reached", "not judged"}
    assert outcome.arrays["training.images"].tolist() == [8, 16]
    assert outcome.arrays["rate.images"].tolist() == [0, 16]
    page = papers.write_markdown(paper, outcomes, tmp_path / "page.md", "make me")
    assert "| 155082 | reached | 155082 to 155082 |" in page.read_text()
    assert (page.parent / "page" / "pixels.png").is_file()
