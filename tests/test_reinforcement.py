"""Reward-based learning: the identity behind it, its environments, and a task that it solves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import retrograde as rg
from retrograde.reinforcement import AbstractEnvironment, ActorCritic, CuedChoice, Interface, Percept, learn

STEPS, INPUTS, ACTIONS = 9, 3, 2


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
@pytest.mark.parametrize("substeps", [1, 2])
def test_tags_times_errors_are_the_gradient_of_advantage_actor_critic(trace_rule, trial_rule, substeps):
    """Σ δ_t F_γ(u)_t = Σ (R_t - V_t) u_t: online, over two episodes, against the loss of the whole trial afterwards."""
    online = {"eprop": rg.rules.EProp(form="forward"), "rtrl": rg.rules.RTRL()}[trace_rule]
    offline = {"eprop": rg.rules.EProp(), "bptt": rg.rules.BPTT()}[trial_rule]
    net = network(rg.neurons.ALIF(5, threshold=0.3, beta=0.1, tau_adapt=20.0), jr.key(0))
    agent = ActorCritic(discount=0.9, value_weight=0.7, entropy=0.05, substeps=substeps)
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

    def objective(net, entropy):
        loss = 0.0
        for episode in range(2):
            x = jnp.repeat(seen[episode], substeps, axis=0)[:, None]
            y = net(x, rule=offline).outputs[substeps - 1 :: substeps, 0]
            value, log_policy = y[:, -1], jax.nn.log_softmax(y[:, :-1])
            returns, following = [], 0.0
            for now in rewards[episode][::-1]:
                following = now + 0.9 * following
                returns.append(following)
            returns = jnp.stack(returns[::-1])
            advantage = jax.lax.stop_gradient(returns - value)
            taken = jnp.take_along_axis(log_policy, chosen[episode][:, None], axis=1)[:, 0]
            bonus = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=1)
            loss += jnp.sum(jnp.where(choices[episode], -taken * advantage - entropy * bonus, 0.0))
            loss += 0.7 * 0.5 * jnp.sum((returns - value) ** 2)
        return loss

    expected = eqx.filter_grad(objective)(net, 0.05)
    for found, wanted in zip(jax.tree.leaves(total), jax.tree.leaves(expected), strict=True):
        assert np.abs(wanted).max() > 0
        assert np.abs(found - wanted).max() < 1e-10 * np.abs(wanted).max()


def test_lambda_shortens_the_memory_of_the_tag():
    net = network(rg.neurons.LeakyRate(4, alpha=0.5), jr.key(0))
    rule, percept = rg.rules.EProp(form="forward"), Percept(jnp.ones(INPUTS), jnp.array(True))
    tags = {}
    for trace in (0.0, 0.5):
        agent = ActorCritic(discount=0.8, trace=trace)
        actor = agent.start(net, rule, key=jr.key(1))
        history = []
        for number in range(3):
            actor, _, _ = agent.act(
                net, rule, actor, percept, jnp.zeros(()), jnp.array(False), key=jr.fold_in(jr.key(2), number)
            )
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
    found = learn(net, world, steps=24, log_every=12, key=jr.key(1), on_row=lambda *row: rows.append(row), **options)
    again = learn(net, world, steps=24, log_every=8, key=jr.key(1), **options)
    assert eqx.tree_equal(found.network, again.network)  # however long a program runs
    assert found.step.tolist() == [12, 24] and found.episodes.tolist() == [6, 6]
    assert [row[0] for row in rows] == [12, 24]
    assert abs(found.reward.mean() - (again.reward * again.episodes).sum() / 12) < 1e-12
    other = learn(net, world, steps=24, key=jr.key(2), **options)
    assert not eqx.tree_equal(found.network, other.network)


@pytest.mark.parametrize("seed", range(2))
def test_a_choice_at_once_is_learnt(seed):
    """No delay: from chance, a reward of 0, to nearly 1."""
    world = CuedChoice(cue=5.0, delay=0.0, signal=5.0, group=4, rate=300.0)
    key = jr.key(seed)
    net = rg.Network.single_layer(
        Interface(world),
        rg.neurons.LIF(20, threshold=0.5, tau_mem=10.0),
        readout=rg.neurons.LeakyReadout(3, tau=10.0, normalised=True),
        key=key,
    )
    found = learn(
        net,
        world,
        rule=rg.rules.EProp(form="forward"),
        optimiser=optax.adam(5e-3),
        agent=ActorCritic(discount=0.95, value_weight=0.5),
        steps=2000,
        update_every=10,
        log_every=200,
        key=key,
    )
    assert abs(found.reward[0]) < 0.5 and found.reward[-1] > 0.9, found.reward


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActorCritic(discount=1.2), r"`ActorCritic\(discount=...\)` must lie between 0 and 1, got 1.2"),
        (lambda: ActorCritic(entropy=-1.0), r"`ActorCritic\(entropy=...\)` must not be negative"),
        (lambda: ActorCritic(substeps=0), r"`ActorCritic\(substeps=...\)` must be at least 1"),
        (lambda: CuedChoice(cue=0.0), r"`CuedChoice\(cue=...\)` must be at least 1 ms, got 0.0"),
        (lambda: CuedChoice(rate=2000.0), r"`CuedChoice\(rate=...\)` must lie between 0 and 1000 Hz"),
        (lambda: _learn(rule=rg.rules.BPTT()), "`BPTT` knows its gradient at the end only"),
        (lambda: _learn(actors=0), "`actors` must be a whole number of at least 1"),
        (lambda: _learn(outputs=2), "the readout needs 3 units, one for each of 2 actions and one for the value"),
        (lambda: _learn(inputs=7), "the network has 7 inputs, the environment gives 16"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _learn(rule=None, actors=2, outputs=3, inputs=16):
    world = CuedChoice(group=4)
    shape = type("Shape", (), {"inputs": inputs, "outputs": outputs})
    net = rg.Network.single_layer(shape, rg.neurons.LIF(3), key=jr.key(0))
    rule = rg.rules.EProp(form="forward") if rule is None else rule
    return learn(net, world, rule=rule, optimiser=optax.sgd(0.1), steps=2, actors=actors, key=jr.key(0))


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


def test_a_choice_in_gymnasium_is_learnt():
    make = gymnasium_cued_choice()
    shape = type("Shape", (), {"inputs": 2, "outputs": 3})
    net = rg.Network.single_layer(shape, rg.neurons.LeakyRate(8), key=jr.key(0))
    rows = []
    found = rg.reinforcement.learn_gymnasium(
        net,
        make,
        encode=lambda seen: seen,
        rule=rg.rules.EProp(form="forward"),
        optimiser=optax.adam(2e-2),
        steps=200,
        actors=4,
        log_every=50,
        key=jr.key(1),
        on_row=lambda *row: rows.append(row),
    )
    assert found.episodes.tolist() == [200] * 4 and len(rows) == 4
    assert found.reward[0] < 0.95 < found.reward[-1], found.reward


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
    with pytest.raises(ValueError, match="actions must be discrete"):
        rg.reinforcement.learn_gymnasium(net, lambda: gymnasium.make("Pendulum-v1"), encode=lambda x: x, **options)
