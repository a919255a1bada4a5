"""Training: one update, many in one program, seeds, history, divergence, early stop, evaluation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import training_zoo as tiny
import zoo
from training_zoo import ADAM, ENSEMBLE, PLAIN, SGD, TASK, arrays, fit

import retrograde as rg
from retrograde import losses, training
from retrograde.training import _fit


def assert_equal(a, b):
    for x, y in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(x, y)


def differs(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


def test_an_update_is_gradient_then_optimiser():
    """The whole data set as one batch and no noise: the loop by hand needs no key."""
    result = fit(PLAIN, optimiser=SGD, steps=3, batch=tiny.TRIALS, log_every=1)
    trials = TASK.take(jnp.arange(tiny.TRIALS))

    def objective(network):
        outputs = network(trials.inputs, readout_steps=1).outputs
        return losses.cross_entropy(outputs, trials), losses.accuracy(outputs, trials)

    network = PLAIN
    for step in range(3):
        (loss, accuracy), gradient = eqx.filter_value_and_grad(objective, has_aux=True)(network)
        gradient = eqx.filter(gradient, network.trainable())
        np.testing.assert_allclose(result.history.loss[0, step], loss, rtol=1e-12)
        np.testing.assert_allclose(result.history.accuracy[0, step], accuracy, rtol=1e-12)
        norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in arrays(gradient)))
        np.testing.assert_allclose(result.history.gradient_norm[0, step], norm, rtol=1e-12)
        network = eqx.apply_updates(
            network, jax.tree.map(lambda g, p: -0.1 * (g + 0.01 * p), gradient, params(network))
        )
    for x, y in zip(arrays(result.network), arrays(network), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)


def params(network):
    return eqx.filter(network, network.trainable())


def test_it_learns_and_stays_in_range():
    result = fit(steps=300)
    assert result.history.loss[0, -1] < 0.1 < 0.5 < result.history.loss[0, 0]
    assert result.evaluate().accuracy > 0.9
    pi = np.concatenate([p.synapse.pi.ravel() for p in result.network.projections.values()])
    xi = np.concatenate([p.synapse.xi.ravel() for p in result.network.projections.values()])
    # Adam moves each by about the learning rate in every step: without the projection some would leave the range
    assert pi.min() == 0 and pi.max() == 1 and xi.min() == 0


def test_the_callers_network_is_not_consumed():
    before = arrays(ENSEMBLE)
    fit(steps=1)
    assert_equal(ENSEMBLE, before)


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_epochs_are_without_replacement():
    seen = []

    def loss(outputs, trials):
        jax.debug.callback(lambda index: seen.append(index.ravel().tolist()), trials.targets, ordered=True)
        return 0.0 * outputs.sum()

    task = tiny.sign_task(10)
    task = eqx.tree_at(lambda t: t.labels, task, jnp.arange(10, dtype=jnp.int32))
    task = eqx.tree_at(lambda t: t.data, task, jnp.zeros((10, 3, 2)))
    # labels beyond the classes: the accuracy means nothing here
    fit(PLAIN, task, optimiser=SGD, steps=7, batch=3, loss=loss)
    jax.effects_barrier()
    first, second, third = [*seen[0], *seen[1], *seen[2]], [*seen[3], *seen[4], *seen[5]], seen[6]
    assert len(set(first)) == len(set(second)) == 9 and len(set(third)) == 3
    assert first != second
    assert set(first) | set(second) <= set(range(10))


def test_one_compiled_program_serves_the_whole_run(tmp_path):
    traced = []

    class Counted(rg.rules.AbstractRule):
        def unroll(self, network, *args, **options):
            traced.append(1)
            return rg.rules.BPTT().unroll(network, *args, **options)

    rule = Counted()
    fit(rule=rule, steps=1, log_every=3)
    once = len(traced)
    assert once > 0
    fit(rule=rule, steps=23, log_every=3, folder=tmp_path / "run", checkpoint_every=9)
    fit(rule=rule, steps=31, log_every=3, folder=tmp_path / "run", checkpoint_every=9, resume=True)
    assert len(traced) == once


def test_numbers_do_not_depend_on_the_dispatch(monkeypatch):
    expected = fit(steps=25)
    monkeypatch.setattr(_fit, "DISPATCH", 3)
    actual = fit(steps=25)
    assert_equal(actual.network, expected.network)
    np.testing.assert_array_equal(actual.history.loss, expected.history.loss)


def test_an_update_by_itself_is_one_of_fit():
    """All trials alike: so those of `fit` are the ones that this update was compiled with."""
    one = eqx.tree_at(lambda task: task.data, TASK, TASK.data[:1] * jnp.ones((tiny.TRIALS, 1, 1)))
    one = eqx.tree_at(lambda task: task.labels, one, jnp.zeros_like(one.labels))
    options = {"rule": rg.rules.BPTT(), "optimiser": SGD, "key": jr.key(2), "batch": 8}
    update = training.compile_update(PLAIN, one, **options)
    seconds = training.time_updates({"a": update}, repeats=2)
    assert 0 < seconds["a"] < 1
    expected = fit(PLAIN, one, steps=12, **options).network  # ten of them are not timed
    for x, y in zip(arrays(update.network), arrays(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)
    # what lies between must hold the activity of all steps; arguments and results the weights at least twice
    assert update.between_bytes >= tiny.TIME * 8 * tiny.NEURONS * 8
    weights = sum(array.nbytes for array in arrays(PLAIN))
    assert update.memory_bytes >= update.between_bytes + 2 * weights
    N, M, K = tiny.NEURONS, tiny.INPUTS, tiny.CLASSES
    assert update.operations.products == 8 * (tiny.TIME * (2 * N * (N + M) + N**2) + 3 * N * K)


def test_pauses_show_the_network_and_change_nothing(tmp_path):
    seen = {}

    def pause(step, network, rule_state):
        seen.setdefault(step, []).append(arrays(network))

    options = {"steps": 30, "validate_every": 12, "checkpoint_every": 9, "pauses": (0, 1, 13, 30), "on_pause": pause}
    result = fit(folder=tmp_path / "run", **options)
    plain = fit(steps=30, validate_every=12)
    assert_equal(result.network, plain.network)
    np.testing.assert_array_equal(result.history.loss, plain.history.loss)
    assert list(seen) == [0, 1, 13, 30]
    assert_equal(seen[0], ENSEMBLE)
    assert_equal(seen[13], fit(steps=13).network)
    assert_equal(seen[30], plain.network)

    # What comes before the checkpoint of step 30 is not shown again.
    fit(folder=tmp_path / "run", resume=True, **options | {"steps": 33, "pauses": (0, 13, 30, 32)})
    assert {step: len(times) for step, times in seen.items()} == {0: 1, 1: 1, 13: 1, 30: 1, 32: 1}


def test_history_averages_between_rows():
    fine, coarse = fit(steps=25, log_every=1).history, fit(steps=25).history
    assert coarse.step.tolist() == [10, 20, 25]
    for metric in ("loss", "accuracy", "gradient_norm"):
        values = getattr(fine, metric)[0]
        means = [values[:10].mean(), values[10:20].mean(), values[20:].mean()]
        np.testing.assert_allclose(getattr(coarse, metric)[0], means, rtol=1e-14)
    assert np.isnan(coarse.validation_loss).all()


def test_seeds_are_independent_runs():
    both = fit(tiny.ensemble, seeds=2)
    alone = fit(tiny.ensemble)
    assert both.history.loss.shape == (2, 2)
    for x, y in zip(arrays(both.seed(0)), arrays(alone.network), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(both.history.loss[0], alone.history.loss[0], rtol=1e-9)
    assert differs(both.seed(0), both.seed(1))
    assert abs(both.history.loss[0] - both.history.loss[1]).min() > 1e-4
    assert both.evaluate(samples=3).accuracies.shape == (2, 3)
    with pytest.raises(IndexError, match="seeds 0 to 1"):
        both.seed(2)


def test_another_key_gives_another_run():
    assert differs(fit(steps=2).network, fit(steps=2, key=jr.key(3)).network)


def test_validation_is_in_the_history():
    result = fit(steps=25, validate_every=15)
    step, values = result.history.measured("validation_accuracy")
    assert result.history.step.tolist() == [10, 15, 20, 25] and step.tolist() == [15, 25]
    assert ((values >= 0) & (values <= 1)).all()
    assert np.isnan(result.history.loss[0]).tolist() == [False, True, False, False]


def exploding(after):
    """Adam whose learning rate is infinite for the readout after some updates."""

    def schedule(step):
        return jnp.where(step >= after, jnp.inf, 0.01)

    return training.optimiser(ENSEMBLE, learning_rate=0.01, groups={"hidden->readout.*": {"learning_rate": schedule}})


@pytest.mark.parametrize("seeds", [1, 2])
def test_divergence_names_step_and_group_and_keeps_what_was_good(tmp_path, seeds):
    network = ENSEMBLE if seeds == 1 else tiny.ensemble
    options = {"optimiser": exploding(13), "log_every": 5, "seeds": seeds}
    with pytest.raises(training.DivergedError) as caught:
        fit(network, steps=40, folder=tmp_path / "run", **options)
    error = caught.value
    good = fit(network, steps=13, **options)
    assert error.step == 14
    assert error.groups == ("hidden->readout.m", "hidden->readout.pi", "hidden->readout.xi")
    for words in ("at update 14", "hidden->readout.m", "after update 13", "lower learning rate", "clip_spectral"):
        assert words in str(error)
    assert ("seed 0, 1" in str(error)) == (seeds == 2)
    assert_equal(error.result.network, good.network)
    np.testing.assert_array_equal(error.result.history.loss, good.history.loss)
    saved = training.load_network(tmp_path / "run", network, seed=seeds - 1)
    assert_equal(saved, good.seed(seeds - 1))
    assert training.read_history(tmp_path / "run").step.tolist() == [5, 10, 13]


def test_a_loss_that_is_not_finite_stops_the_run():
    def loss(outputs, trials):
        return jnp.where(trials.targets[0, 0] < 2, jnp.nan, 1.0) * outputs.sum()

    with pytest.raises(training.DivergedError, match=r"at update 1: the loss and .*all 3 parameter groups") as caught:
        fit(PLAIN, optimiser=SGD, loss=loss)
    assert_equal(caught.value.result.network, PLAIN)


def history(metric, values):
    values = np.asarray(values, float)
    empty = {name: np.full(values.shape, np.nan) for name in training._history.METRICS}
    return training.History(step=10 * np.arange(1, values.shape[1] + 1), **(empty | {metric: values}))


def stops_at(early_stop, values):
    values = np.asarray(values, float)
    rows = range(1, values.shape[1] + 1)
    return next((10 * n for n in rows if early_stop.is_reached(history(early_stop.metric, values[:, :n]))), None)


def test_early_stop():
    stop = training.EarlyStop
    assert stops_at(stop("loss", threshold=0.5), [[3, 2, 0.5, 0.1]]) == 30
    assert stops_at(stop("loss", threshold=0.5, after=40), [[3, 2, 0.5, 0.1]]) == 40
    assert stops_at(stop("loss", threshold=0.5), [[1, 0.2], [1, 0.9]]) is None  # the mean over seeds counts
    assert stops_at(stop("accuracy", threshold=0.5), [[0.1, 0.4, 0.6]]) == 30
    assert stops_at(stop("validation_loss", patience=2), [[3, 2, 2.5, 1.9, 2, 1.95, 1]]) == 60
    assert stops_at(stop("validation_accuracy", patience=1), [[0.1, 0.2, 0.15]]) == 30
    assert stops_at(stop("loss", patience=2), [[3, 2, 1]]) is None
    with pytest.raises(ValueError, match="no such metric; pick one of loss"):
        stop("los", threshold=1.0)
    with pytest.raises(ValueError, match="never stops"):
        stop("loss")
    with pytest.raises(ValueError, match="needs `validate_every`"):
        fit(early_stop=stop("validation_loss", patience=1))


def test_early_stop_ends_the_run_at_a_logged_step():
    everything = fit(steps=300, log_every=5)
    threshold = 0.45
    first = everything.history.step[np.argmax(everything.history.loss[0] <= threshold)]
    stopped = fit(steps=300, log_every=5, early_stop=training.EarlyStop("loss", threshold=threshold))
    assert stopped.step == first < 300
    assert stopped.stopped_early and not everything.stopped_early
    assert stopped.history.step[-1] == first


def test_regulariser_acts_but_is_not_reported():
    def regulariser(network):
        return 10.0 * sum((p.synapse.weight**2).sum() for p in network.projections.values())

    def size(result):
        return sum((x**2).sum() for x in arrays(params(result.network)))

    free = fit(PLAIN, optimiser=SGD, log_every=1)
    bound = fit(PLAIN, optimiser=SGD, log_every=1, regulariser=regulariser)
    assert bound.history.loss[0, 0] == pytest.approx(free.history.loss[0, 0], rel=1e-12)
    assert size(bound) < 0.5 * size(free)


def test_a_penalty_on_rates_acts_is_not_reported_and_has_its_gradient():
    """One step of gradient descent, with and without: the difference is -η dE/dθ."""
    hidden = rg.neurons.ALIF(6, threshold=0.2)
    network = rg.Network.single_layer(TASK, hidden, key=jr.key(0))
    penalty = rg.losses.FiringRate(target=0.3, strength=2.0)
    key, rule = jr.key(3), rg.rules.EProp()
    options = {"rule": rule, "optimiser": optax.sgd(0.1), "steps": 1, "key": key, "log_every": 1, "batch": 8}
    free = rg.fit(network, TASK, **options)
    bound = rg.fit(network, TASK, penalty=penalty, **options)
    assert bound.history.loss[0, 0] == free.history.loss[0, 0]
    seen = []

    def watch(activity):
        jax.debug.callback(lambda z: seen.append(z), activity["hidden"])
        return penalty(activity)

    watch.populations = ("hidden",)
    rg.fit(network, TASK, penalty=watch, **options)
    rates = seen[0].mean(axis=(0, 1))
    assert float(penalty({"hidden": jnp.asarray(seen[0])})) == pytest.approx(2 * np.sum((rates - 0.3) ** 2))
    # the readout's weights cannot change a rate; those into the neurons can
    moved = {
        name: np.abs(bound.network.projections[name].synapse.weight - free.network.projections[name].synapse.weight)
        for name in network.projections
    }
    assert moved["hidden->readout"].max() == 0
    assert moved["input->hidden"].max() > 0 and moved["hidden->hidden"].max() > 0
    with pytest.raises(ValueError, match="`penalty` is known when a trial ends"):
        rg.fit(network, TASK, penalty=penalty, update="step", **options | {"rule": rg.rules.EProp(form="forward")})


def test_rates_are_pulled_to_their_target():
    hidden = rg.neurons.LIF(10, threshold=0.5)
    network = rg.Network.single_layer(TASK, hidden, key=jr.key(1))
    result = rg.fit(
        network,
        TASK,
        rule=rg.rules.EProp(),
        optimiser=optax.adam(1e-2),
        steps=150,
        key=jr.key(3),
        batch=16,
        loss=lambda outputs, trials: 0.0 * outputs.sum(),
        penalty=rg.losses.FiringRate(target=0.2, strength=1.0),
    )
    x = TASK.sample(jr.key(9), 200).inputs

    def off(network):
        return float(np.abs(network(x, record=("hidden",)).activity["hidden"].mean((0, 1)) - 0.2).mean())

    assert off(result.network) < 0.5 * off(network)


def test_progress():
    reports = []
    result = fit(steps=30, validate_every=15, on_progress=reports.append)
    assert [r.step for r in reports] == sorted({r.step for r in reports})
    last = reports[-1]
    assert (last.step, last.steps, last.seconds_left) == (30, 30, 0.0)
    assert last.validation_accuracy == result.history.validation_accuracy[0, -1]
    assert last.steps_per_second > 0 and last.seconds > 0
    assert np.isnan(reports[0].validation_loss)


def test_endless_task_and_masked_weights_and_regression():
    task = rg.tasks.Add()
    network = rg.Network(
        {"hidden": rg.neurons.LeakyRate(4, "tanh"), "readout": rg.neurons.Linear(task.outputs)},
        [
            rg.Projection("input", "hidden", zoo._dense(jr.key(0), (4, task.inputs))),
            rg.Projection("hidden", "hidden", zoo._masked(jr.key(1), (4, 4)), delay=1),
            rg.Projection("hidden", "readout", zoo._dense(jr.key(2), (task.outputs, 4))),
        ],
        inputs=task.inputs,
        readout="readout",
    )
    regression = task.loss != "cross_entropy"
    result = fit(network, task, optimiser=optax.adam(0.01), steps=3, log_every=1)
    assert len(set(result.history.loss[0])) == 3
    assert np.isnan(result.history.accuracy).all() == regression
    measured = result.evaluate(trials=30)
    assert np.isfinite(measured.loss) and (measured.predictions is None) == regression
    assert result.evaluate(trials=30).loss == measured.loss


def test_evaluate_is_a_pass_over_the_split():
    trials = TASK.take(jnp.arange(tiny.TRIALS))
    outputs = ENSEMBLE(trials.inputs, weights="mean", readout_steps=1).outputs
    for batch in (tiny.TRIALS, 7):  # 7 leaves a last batch that is padded
        measured = training.evaluate(ENSEMBLE, TASK, jr.key(0), weights="mean", batch=batch, samples=2)
        np.testing.assert_allclose(measured.losses, losses.cross_entropy(outputs, trials), rtol=1e-12)
        np.testing.assert_allclose(measured.accuracies, losses.accuracy(outputs, trials), rtol=1e-12)
        np.testing.assert_array_equal(measured.predictions[0, 1], outputs.argmax(-1))
        np.testing.assert_array_equal(measured.targets, trials.targets)
        assert measured.mask.shape == (1, tiny.TRIALS) and measured.mask.all()
        assert measured.loss_sd == pytest.approx(0, abs=1e-12)


def test_a_quenched_sample_is_one_network_for_the_whole_split():
    half = TASK.data.at[20:].set(TASK.data[:20])
    task = eqx.tree_at(lambda t: t.data, TASK, half)
    noisy = eqx.tree_at(
        lambda n: [p.synapse.xi for p in n.projections.values()], ENSEMBLE, replace_fn=lambda xi: xi + 1.0
    )
    same = {}
    for weights in ("mean-field", "annealed", "quenched"):
        measured = training.evaluate(noisy, task, jr.key(0), weights=weights, batch=20, samples=4)
        same[weights] = (measured.predictions[..., :20] == measured.predictions[..., 20:]).mean()
        assert len(set(measured.losses.ravel())) == 4
    assert same["quenched"] == 1 > max(same["mean-field"], same["annealed"])


def test_plot():
    result = fit(tiny.ensemble, seeds=2, validate_every=20)
    axes = result.plot()
    assert [ax.get_ylabel() for ax in axes] == ["loss", "accuracy"]
    training_line, validation_line = axes[0].get_lines()
    np.testing.assert_allclose(training_line.get_ydata(), result.history.loss.mean(0))
    assert validation_line.get_xdata().tolist() == [20]
    axes[0].figure.clear()
    import matplotlib.pyplot

    matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "`steps` must be a whole number of at least 1, got 0"),
        ({"batch": 41}, "more than the 40 training trials of Sign; take at most 40"),
        ({"seeds": 2}, "needs a function key -> network"),
        ({"log_every": 0}, "`log_every`"),
        ({"validate_every": 0}, "`validate_every`"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


def test_refuses_a_network_with_nothing_to_train():
    frozen = rg.Network(
        PLAIN.populations,
        [
            eqx.tree_at(
                lambda p: p.synapse, rg.Projection(p.source, p.target, p.synapse, p.delay, frozen=True), p.synapse
            )
            for p in PLAIN.projections.values()
        ],
        inputs=tiny.INPUTS,
        readout="readout",
    )
    with pytest.raises(ValueError, match="nothing to train"):
        fit(frozen, optimiser=ADAM)


@pytest.mark.parametrize(
    "options, message", [({"weights": "mean_field"}, "pick one of"), ({"samples": 0}, "`samples`")]
)
def test_evaluate_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        training.evaluate(PLAIN, TASK, jr.key(0), **options)
