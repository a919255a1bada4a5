"""Reward-based learning: the identity behind it, its environments, and a task that it solves."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import retrograde as rg
from retrograde.reinforcement import (
    AbstractEnvironment,
    ActorCritic,
    Atari,
    CuedChoice,
    Interface,
    Percept,
    _diary,
    learn,
)
from retrograde.reinforcement._unrolled import Lesson, actor_critic_loss, begin, prepare, run_unrolls
from retrograde.training import CheckpointError, DivergedError
from retrograde.unroll import State

STEPS, INPUTS, ACTIONS = 9, 3, 2
NOWHERE = State({}, {}, jnp.zeros((), jnp.int32))


class World(AbstractEnvironment):
    """Somewhere to have a shape."""

    inputs: int = INPUTS
    actions: int = ACTIONS

    def reset(self, key):
        return jnp.zeros(()), Percept(jr.normal(key, (INPUTS,)), jnp.array(True))

    def step(self, state, action, key):
        percept = Percept(jr.normal(key, (INPUTS,)), jnp.array(True))
        return state + 1.0, percept, (action == 1).astype(float), state == 4.0


def network(neuron, key):
    return rg.Network.single_layer(Interface(World()), neuron, readout=rg.neurons.LeakyReadout(3, tau=4.0), key=key)


@pytest.mark.parametrize("trace_rule, trial_rule", [("eprop", "eprop"), ("rtrl", "bptt")])
@pytest.mark.parametrize(("substeps", "trace"), [(1, 1.0), (2, 0.6)])
def test_tags_times_errors_are_the_gradient_of_advantage_actor_critic(trace_rule, trial_rule, substeps, trace):
    """Σ δ_t F_γλ(u)_t = Σ A_t u_t: online, over two episodes, against the loss of the whole trial afterwards."""
    online = {"eprop": rg.rules.EProp(form="forward"), "rtrl": rg.rules.RTRL()}[trace_rule]
    offline = {"eprop": rg.rules.EProp(), "bptt": rg.rules.BPTT()}[trial_rule]
    net = network(rg.neurons.ALIF(5, threshold=0.3, beta=0.1, tau_adapt=20.0), jr.key(0))
    agent = ActorCritic(discount=0.9, trace=trace, value_weight=0.7, entropy=0.05, substeps=substeps)
    seen = jr.normal(jr.key(1), (2, STEPS, INPUTS)) + 0.5
    rewards = jr.normal(jr.key(2), (2, STEPS))
    choices = jr.bernoulli(jr.key(3), 0.5, (2, STEPS))

    actor = agent.start(net, online, key=jr.key(4))
    total = jax.tree.map(jnp.zeros_like, eqx.filter(net, net.trainable()))
    reward, done, actions = jnp.zeros(()), jnp.array(False), []
    act = eqx.filter_jit(agent.act)
    for number in range(2 * STEPS + 1):
        episode, step = divmod(number, STEPS)
        is_over = number == 2 * STEPS  # one more step tells what the last reward teaches
        percept = Percept(seen[episode % 2, step], choices[episode % 2, step] & jnp.array(not is_over))
        actor, action, gradient = act(net, online, actor, percept, reward, done, key=jr.fold_in(jr.key(5), number))
        total = jax.tree.map(jnp.add, total, gradient)
        actions.append(int(action))
        reward, done = rewards[episode % 2, step], jnp.array(step == STEPS - 1)
    chosen = jnp.array(actions[:-1]).reshape(2, STEPS)
    assert 0 < chosen.mean() < 1

    dones = jnp.arange(STEPS)[:, None] == STEPS - 1

    def objective(net):
        loss = 0.0
        for episode in range(2):
            x = jnp.repeat(seen[episode], substeps, axis=0)[:, None]
            outputs = net(x, rule=offline).outputs[substeps - 1 :: substeps]
            columns = (z[episode][:, None] for z in (seen, choices, chosen, rewards))
            loss += actor_critic_loss(
                agent, outputs, Lesson(*columns, dones, NOWHERE, jnp.zeros(1)), jnp.ones_like(dones)
            )
        return loss

    expected = eqx.filter_jit(eqx.filter_grad(objective))(net)
    for found, wanted in zip(jax.tree.leaves(total), jax.tree.leaves(expected), strict=True):
        assert np.abs(wanted).max() > 0
        assert np.abs(found - wanted).max() < 1e-10 * np.abs(wanted).max()


@given(seed=st.integers(0, 2**31), shape=st.sampled_from([(1, 1), (6, 3)]))
def test_the_loss_is_that_of_returns_less_values(seed, shape):
    """λ = 1: advantages are discounted returns, up to the episode's end or what is expected after it, less values."""
    rng, (steps, actors) = np.random.default_rng(seed), shape
    agent = ActorCritic(discount=0.8, value_weight=0.3, entropy=0.2)
    outputs, rewards = rng.normal(size=(*shape, 3)), rng.normal(size=shape)
    choices, dones, counts = (rng.random(shape) < chance for chance in (0.6, 0.3, 0.7))
    actions, after = rng.integers(2, size=shape), rng.normal(size=actors)
    inputs = np.zeros((*shape, 1))
    given_to = map(jnp.asarray, (inputs, choices, actions, rewards, dones))
    lesson = Lesson(*given_to, state=NOWHERE, value=jnp.asarray(after))
    found = loss_gradient(agent, jnp.asarray(outputs), lesson, jnp.asarray(counts))

    policy = np.exp(outputs[..., :2]) / np.exp(outputs[..., :2]).sum(axis=-1, keepdims=True)
    following, expected = after, np.zeros_like(outputs)
    for t in reversed(range(steps)):
        following = rewards[t] + 0.8 * np.where(dones[t], 0.0, following)
        advantage = following - outputs[t, :, 2]
        entropy = -np.sum(policy[t] * np.log(policy[t]), axis=1, keepdims=True)
        wrong = (policy[t] - np.eye(2)[actions[t]]) * advantage[:, None]
        wrong += 0.2 * policy[t] * (np.log(policy[t]) + entropy)
        expected[t, :, :2] = np.where(choices[t][:, None], wrong, 0.0)
        expected[t, :, 2] = -0.3 * advantage
    expected = np.where(counts[..., None], expected, 0.0) / actors
    assert np.abs(found - expected).max() < 1e-12


@eqx.filter_jit
def loss_gradient(agent, outputs, lesson, counts):
    return jax.grad(lambda outputs: actor_critic_loss(agent, outputs, lesson, counts))(outputs)


def test_lambda_shortens_the_memory_of_the_tag():
    net = network(rg.neurons.LeakyRate(4, alpha=0.5), jr.key(0))
    rule, percept = rg.rules.EProp(form="forward"), Percept(jnp.ones(INPUTS), jnp.array(True))
    tags = {}
    for trace in (0.0, 0.5):
        agent = ActorCritic(discount=0.8, trace=trace)
        actor = agent.start(net, rule, key=jr.key(1))
        act = eqx.filter_jit(agent.act)
        history = []
        for number in range(3):
            key = jr.fold_in(jr.key(2), number)
            actor, _, _ = act(net, rule, actor, percept, jnp.zeros(()), jnp.array(False), key=key)
            history.append(actor.tag)
        tags[trace] = history
    none, half = tags[0.0], tags[0.5]
    for before, now, alone in zip(*map(jax.tree.leaves, (half[1], half[2], none[2])), strict=True):
        assert np.abs(now - (0.4 * before + alone)).max() < 1e-14


def test_the_cue_is_shown_and_the_right_side_rewarded():
    world = CuedChoice(cue=20.0, delay=10.0, signal=5.0, group=50, rate=200.0, noise_rate=20.0)
    assert world.steps == 35 and world.inputs == 200

    def episode(key):
        state, percept = world.reset(key)
        side, seen, rewards, dones, choices = state.side, [], [], [], []
        for number in range(world.steps):
            seen.append(percept.inputs)
            choices.append(percept.is_choice)
            state, percept, reward, done = world.step(state, jnp.array(1), jr.fold_in(key, number))
            rewards.append(reward)
            dones.append(done)
        return side, *map(jnp.stack, (seen, choices, rewards, dones))

    side, seen, choices, rewards, dones = eqx.filter_jit(jax.vmap(episode))(jr.split(jr.key(0), 40))
    assert 8 < side.sum() < 32
    assert (choices == dones).all() and (dones.sum(axis=1) == 1).all() and dones[:, -1].all()
    assert (rewards[:, :-1] == 0).all()
    assert (rewards[:, -1] == jnp.where(side == 1, 1.0, -1.0)).all()
    groups = seen.reshape(40, 35, 4, 50).mean(axis=3)
    cue, delay, signal = groups[:, :20], groups[:, 20:30], groups[:, 30:]
    error = 5 * (0.2 * 0.8 / (40 * 20 * 50)) ** 0.5
    shown = jnp.take_along_axis(cue, side[:, None, None], axis=2)
    assert abs(float(shown.mean()) - 0.2) < error
    assert jnp.take_along_axis(cue, 1 - side[:, None, None], axis=2).max() == 0
    assert delay[:, :, :3].max() == 0 and cue[:, :, 2].max() == 0 and signal[:, :, :2].max() == 0
    assert abs(float(signal[:, :, 2].mean()) - 0.2) < 2 * error
    assert abs(float(groups[:, :, 3].mean()) - 0.02) < error


def test_a_seed_fixes_what_is_learnt_and_rows_add_up():
    world = CuedChoice(cue=3.0, delay=1.0, signal=2.0, group=2)
    net = rg.Network.single_layer(Interface(world), rg.neurons.LIF(5, threshold=0.5), key=jr.key(0))
    options = {"rule": rg.rules.EProp(form="forward"), "optimiser": optax.adam(1e-2), "actors": 3, "update_every": 2}
    rows = []
    found = learn(net, world, steps=24, log_every=12, key=jr.key(1), on_row=rows.append, **options)
    again = learn(net, world, steps=24, log_every=8, key=jr.key(1), **options)
    assert eqx.tree_equal(found.network, again.network)  # however long a program runs
    assert found.step.tolist() == [12, 24] and found.episodes.tolist() == [6, 6]
    assert [row.step for row in rows] == [12, 24]
    assert abs(found.reward.mean() - (again.reward * again.episodes).sum() / 12) < 1e-12
    other = learn(net, world, steps=24, log_every=12, key=jr.key(2), **options)
    assert not eqx.tree_equal(found.network, other.network)


@pytest.mark.parametrize("form", [{"update_every": 5}, {"unroll": 6}], ids=["step by step", "unrolled"])
def test_what_is_interrupted_goes_on_to_the_same_bits(form, tmp_path, monkeypatch):
    monkeypatch.setattr(_diary, "KEEP_SECONDS", 0.0)
    world = CuedChoice(cue=3.0, delay=1.0, signal=2.0, group=2)
    net = rg.Network.single_layer(Interface(world), rg.neurons.LIF(5, threshold=0.5), key=jr.key(0))

    def run(folder, steps=48, size=5, key=1, on_row=None, rate=1e-2):
        start = net if size == 5 else rg.Network.single_layer(Interface(world), rg.neurons.LIF(size), key=jr.key(0))
        rule = rg.rules.EProp(form="forward") if "update_every" in form else rg.rules.BPTT()
        options = {"rule": rule, "optimiser": optax.adam(rate), "actors": 3, "steps": steps, "log_every": 12}
        return learn(start, world, **options, **form, key=jr.key(key), on_row=on_row, folder=folder)

    def kill(row):
        if row.step == 36:
            raise KeyboardInterrupt

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_row=kill)
    rows = []
    found = run(tmp_path, on_row=rows.append)
    assert [row.step for row in rows] == [36, 48]  # two rows were kept
    assert eqx.tree_equal(found.network, whole.network)
    for name in ("step", "episodes", "reward"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert (np.diff(found.seconds) > 0).all()

    rows = []
    assert eqx.tree_equal(run(tmp_path, on_row=rows.append).network, whole.network) and not rows  # it is over
    assert eqx.tree_equal(run(tmp_path, steps=60).network, run(None, steps=60).network)  # or goes further
    with pytest.raises(ValueError, match="holds a learning with another `key`"):
        run(tmp_path, key=2)
    with pytest.raises(CheckpointError, match="belongs to another network"):
        run(tmp_path, size=6)
    with pytest.raises(DivergedError, match="diverged before step 72"):
        run(tmp_path, steps=72, rate=math.inf)
    assert run(tmp_path, steps=60).step[-1] == 60  # what was kept before is there


def playing(unroll, count, *, seed=0, optimiser=None, actors=4):
    """A network that acts in the small world, `count` unrolls further; its trace, states and sums."""
    world = World()
    net = network(rg.neurons.ALIF(5, threshold=0.3, beta=0.1, refractory=2), jr.key(seed))
    practice, apprentice = prepare(
        net,
        rule=rg.rules.EProp(),
        optimiser=optimiser or optax.sgd(0.0),
        agent=ActorCritic(substeps=2),
        actors=actors,
        unroll=unroll,
        penalty=None,
        key=jr.key(seed + 1),
        dtype=jnp.float64,
    )
    states, percepts = jax.vmap(world.reset)(jr.split(jr.key(seed + 2), actors))
    start = states, percepts, jnp.zeros(actors)
    return run_unrolls(practice, world, apprentice, start, jr.key(seed + 3), count)


def test_without_learning_it_does_not_matter_where_unrolls_begin():
    """Episodes of 5 steps end inside unrolls of 4 and of 6; 12 steps are 12 steps."""
    short, long = playing(4, 3), playing(6, 2)
    for found, expected in zip(*map(jax.tree.leaves, (short, long)), strict=True):
        assert np.array_equal(found, expected)
    ended, reward = short[2]
    assert int(ended) == 4 * 2 and 0 < float(reward) < 4 * 2 * 5


def test_an_episode_begins_with_a_network_that_has_done_nothing():
    net = network(rg.neurons.LeakyRate(3, alpha=0.5), jr.key(0))
    options = {"rule": rg.rules.EProp(), "optimiser": optax.sgd(0.0), "agent": ActorCritic(), "actors": 3}
    practice, apprentice = prepare(net, unroll=2, penalty=None, key=jr.key(1), dtype=jnp.float64, **options)
    apprentice, _ = practice.act(apprentice, jnp.ones((3, INPUTS)))
    anew = begin(practice, apprentice, jnp.array([False, True, False])).state
    for found, old, new in zip(
        *map(jax.tree.leaves, (anew.neurons, apprentice.state.neurons, net.initial_state(3).neurons)), strict=True
    ):
        assert np.abs(old - new).max(axis=1).min() > 0
        assert np.array_equal(found[::2], old[::2]) and np.array_equal(found[1], new[1])
    assert int(anew.step) == int(apprentice.state.step)  # the noise does not come again


def test_what_follows_the_end_of_an_episode_is_not_learnt_from():
    def gradient(rewards, seen):
        net = network(rg.neurons.ALIF(5, threshold=0.3, beta=0.1), jr.key(0))
        options = {"rule": rg.rules.EProp(), "optimiser": optax.sgd(1.0), "agent": ActorCritic(), "actors": 2}
        practice, apprentice = prepare(net, unroll=6, penalty=None, key=jr.key(1), dtype=jnp.float64, **options)
        actions = jr.randint(jr.key(2), (6, 2), 0, 2)
        dones = jnp.zeros((6, 2), bool).at[2, 0].set(True)
        lesson = Lesson(
            seen, jnp.ones((6, 2), bool), actions, rewards, dones, state=apprentice.state, value=jnp.zeros(2)
        )
        return jax.tree.leaves(eqx.filter_jit(practice.learn)(apprentice, lesson).params)

    rewards, seen = jr.normal(jr.key(3), (6, 2)), jr.normal(jr.key(4), (6, 2, INPUTS)) + 0.5
    base = gradient(rewards, seen)
    later = gradient(rewards.at[3:, 0].add(1.0), seen.at[3:, 0].add(1.0))
    sooner = gradient(rewards.at[2, 0].add(1.0), seen)
    other = gradient(rewards.at[3, 1].add(1.0), seen)
    assert all(np.array_equal(x, y) for x, y in zip(base, later, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(base, sooner, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(base, other, strict=True))


def test_a_choice_after_a_delay_is_learnt_unroll_by_unroll():
    world = CuedChoice(cue=5.0, delay=10.0, signal=5.0, group=4, rate=300.0)
    net = rg.Network.single_layer(
        Interface(world),
        rg.neurons.LIF(20, threshold=0.5, tau_mem=20.0),
        readout=rg.neurons.LeakyReadout(3, tau=10.0, normalised=True),
        key=jr.key(0),
    )
    found = learn(
        net,
        world,
        rule=rg.rules.BPTT(),  # the documentation does it by e-prop
        optimiser=optax.adam(1e-2),
        agent=ActorCritic(discount=0.95, value_weight=0.5),
        steps=150 * world.steps,
        unroll=world.steps,
        penalty=rg.losses.FiringRate(target=0.05, strength=0.1),
        log_every=25 * world.steps,
        key=jr.key(1),
    )
    assert found.step.tolist() == [25 * n * world.steps for n in range(1, 7)]
    assert abs(found.reward[0]) < 0.7 and found.reward[-1] > 0.9, found.reward


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActorCritic(discount=1.2), r"`ActorCritic\(discount=...\)` must lie between 0 and 1, got 1.2"),
        (lambda: ActorCritic(entropy=-1.0), r"`ActorCritic\(entropy=...\)` must not be negative"),
        (lambda: ActorCritic(substeps=0), r"`ActorCritic\(substeps=...\)` must be at least 1"),
        (lambda: CuedChoice(cue=0.0), r"`CuedChoice\(cue=...\)` must be at least 1 ms, got 0.0"),
        (lambda: CuedChoice(rate=2000.0), r"`CuedChoice\(rate=...\)` must lie between 0 and 1000 Hz"),
        (lambda: _learn(rule=rg.rules.BPTT()), "`BPTT` knows its gradient at the end only"),
        (lambda: _learn(rule=rg.rules.WeightPerturbation(), unroll=2), "`WeightPerturbation` compares losses"),
        (lambda: _learn(unroll=0), "`unroll` must be a whole number of at least 1"),
        (lambda: _learn(unroll=2, update_every=2), "with `unroll` weights change once in an unroll: leave `update_ev"),
        (lambda: _learn(penalty=rg.losses.FiringRate()), "`penalty` is known when an unroll ends: give its length"),
        (lambda: Atari(rows=(3, 90)), r"`Atari\(rows=...\)` must lie in order between 0 and 84"),
        (lambda: Atari(pool=0), r"`Atari\(pool=...\)` must lie between 1 and the number of rows"),
        (lambda: Atari(choices=()), r"`Atari\(choices=...\)` must name at least one action"),
        (lambda: _learn(actors=0), "`actors` must be a whole number of at least 1"),
        (lambda: _learn(outputs=2), "the readout needs 3 units, one for each of 2 actions and one for the value"),
        (lambda: _learn(inputs=7), "the network has 7 inputs, the environment gives 16"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _learn(rule=None, actors=2, outputs=3, inputs=16, **options):
    world = CuedChoice(group=4)
    shape = type("Shape", (), {"inputs": inputs, "outputs": outputs})
    net = rg.Network.single_layer(shape, rg.neurons.LIF(3), key=jr.key(0))
    rule = rg.rules.EProp(form="forward") if rule is None else rule
    return learn(net, world, rule=rule, optimiser=optax.sgd(0.1), steps=2, actors=actors, key=jr.key(0), **options)


def gymnasium_cued_choice():
    """Which of two lamps is on? One step, a reward of 1 or 0; an environment of Gymnasium."""
    gymnasium = pytest.importorskip("gymnasium")

    class Lamps(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,))
        action_space = gymnasium.spaces.Discrete(2, start=5)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.lamp = int(self.np_random.integers(2))
            return np.eye(2, dtype=np.float32)[self.lamp], {}

        def step(self, action):
            assert action in (5, 6)
            return np.zeros(2, np.float32), float(action - 5 == self.lamp), True, False, {}

    return Lamps


@pytest.mark.parametrize(
    "form",
    [{"rule": rg.rules.EProp(form="forward")}, {"rule": rg.rules.BPTT(), "unroll": 5, "actions": [6, 5]}],
    ids=["step by step", "unrolled"],
)
def test_a_choice_in_gymnasium_is_learnt(form):
    make = gymnasium_cued_choice()
    shape = type("Shape", (), {"inputs": 2, "outputs": 3})
    net = rg.Network.single_layer(shape, rg.neurons.LeakyRate(8), key=jr.key(0))
    rows = []
    found = rg.reinforcement.learn_gymnasium(
        net,
        make,
        encode=lambda seen: seen,
        **form,
        optimiser=optax.adam(2e-2),
        steps=200,
        actors=4,
        log_every=50,
        key=jr.key(1),
        on_row=rows.append,
    )
    assert found.episodes.tolist() == [200] * 4 and len(rows) == 4
    assert found.reward[0] < 0.95 < found.reward[-1], found.reward


def test_an_interruption_in_gymnasium_cuts_episodes_off(tmp_path):
    shape = type("Shape", (), {"inputs": 2, "outputs": 3})
    net = rg.Network.single_layer(shape, rg.neurons.LeakyRate(8), key=jr.key(0))

    def run(on_row):
        options = {"rule": rg.rules.BPTT(), "optimiser": optax.adam(2e-2), "actors": 2, "log_every": 10, "unroll": 5}
        return rg.reinforcement.learn_gymnasium(
            net,
            gymnasium_cued_choice(),
            encode=lambda seen: seen,
            **options,
            steps=40,
            key=jr.key(1),
            on_row=on_row,
            folder=tmp_path,
        )

    before, after = [], []
    first = run(lambda row: before.append(row) or len(before) == 2)
    whole = run(after.append)
    assert [row.step for row in after] == [30, 40] and whole.step.tolist() == [10, 20, 30, 40]
    assert whole.reward[:2].tolist() == first.reward.tolist() and whole.episodes.tolist() == [20] * 4
    assert not eqx.tree_equal(whole.network, first.network)


def test_what_gymnasium_cannot_give_is_refused():
    gymnasium = pytest.importorskip("gymnasium")
    shape = type("Shape", (), {"inputs": 2, "outputs": 3})
    net = rg.Network.single_layer(shape, rg.neurons.LeakyRate(3), key=jr.key(0))
    options = {
        "rule": rg.rules.EProp(form="forward"),
        "optimiser": optax.sgd(0.1),
        "steps": 2,
        "actors": 2,
        "key": jr.key(0),
    }
    with pytest.raises(ValueError, match=r"`encode` made inputs of shape \(2, 4\) .* the network needs \(2, 2\)"):
        rg.reinforcement.learn_gymnasium(net, lambda: gymnasium.make("CartPole-v1"), encode=lambda x: x, **options)
    with pytest.raises(ValueError, match=r"`actions=\[7\]` must be different ones of those that there are, 0 to 1"):
        rg.reinforcement.learn_gymnasium(
            net, lambda: gymnasium.make("CartPole-v1"), encode=lambda x: x, actions=[7], **options
        )
    with pytest.raises(ValueError, match="must begin an episode in the step in which the last one ends"):
        rg.reinforcement.learn_gymnasium(
            net, gymnasium.make_vec("CartPole-v1", num_envs=2), encode=lambda x: x, **options
        )
    with pytest.raises(ValueError, match="actions must be discrete"):
        rg.reinforcement.learn_gymnasium(net, lambda: gymnasium.make("Pendulum-v1"), encode=lambda x: x, **options)


def test_pong_is_seen_and_played():
    pytest.importorskip("gymnasium")
    pytest.importorskip("ale_py")
    game = Atari()
    worlds = game.worlds(2, threads=1)
    seen, _ = worlds.reset(seed=0)
    for actions in 25 * [[0, 0]] + 3 * [[2, 3]]:  # until the ball is served; then up, and down
        seen, *_ = worlds.step(np.array(actions))
    inputs = game.encode(seen)
    assert inputs.shape == (2, game.inputs) and inputs.dtype == bool
    pictures = inputs.reshape(2, 2, 31, 42)
    assert (pictures.sum(axis=(2, 3)) > 8).all() and (pictures.sum(axis=(2, 3)) < 40).all()  # two paddles and a ball
    own = [np.nonzero(picture[1, :, 36:38].any(axis=1))[0].mean() for picture in pictures]
    assert own[0] < own[1]  # counted from above

    face = Interface(game)
    net = rg.Network.single_layer(face, rg.neurons.ALIF(6, threshold=0.5, beta=0.1), key=jr.key(0))
    found = rg.reinforcement.learn_gymnasium(
        net,
        worlds,
        encode=game.encode,
        actions=game.choices,
        rule=rg.rules.EProp(),
        optimiser=optax.adam(1e-2),
        steps=8,
        unroll=4,
        log_every=4,
        agent=ActorCritic(substeps=2),
        key=jr.key(0),
    )
    worlds.close()
    assert found.step.tolist() == [4, 8]
    assert not eqx.tree_equal(found.network, net)
