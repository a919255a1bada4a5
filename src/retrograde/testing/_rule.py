"""Does a rule keep its contract?"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from ..network import Network, Projection
from ..neurons import ALIF, GRU, LeakyRate, LeakyReadout, Linear
from ..rules import AbstractOnlineRule, AbstractRule
from ..stepping import draw_noise, from_state, linearise
from ..synapses import Dense, SpikeAndSlab, Tied
from ._contract import ContractError, attempt, cast, dtypes, is_close, is_finite, leaves, require

STEPS, READ, BATCH, SIZE, INPUTS, OUTPUTS = 5, 4, 2, 4, 3, 2


def check_rule(rule: Any, network: Network | None = None, *, seed: int = 0) -> None:
    """Verifies the contract of a rule, your own or one of ours.

    Checked on each of a few small networks (leaky rates; adaptive spiking neurons with a leaky readout; an ensemble of
    gated units): `prepare` changes nothing but feedback; loss, outputs, recorded activity and last state are those
    that every rule gives for the same key; the gradient has the structure, shapes and types of the network, is finite,
    and 0 for what is frozen; `rule_state` keeps its structure and may be passed in again. On the first network that
    the rule accepts also: the gradient is the same compiled or not, and whenever it is asked for with one key;
    relabelling neurons relabels it (rules without randomness); the stream of a rule that runs forward in time adds up
    to it.

    A rule that is a transposition, which leaves `value_and_grad` as it is, must give the weights of a memoryless
    readout their exact gradient: it decides how credit goes back through time, and no time lies between these weights
    and the loss. A rule with a `value_and_grad` of its own need not.

    A rule may refuse networks, but not all of them, by a `ValueError` that names it.

    Args:
        rule: The rule.
        network: Check the rule on this network alone.
        seed: Seeds weights, trials and keys.

    Raises:
        ContractError: If the rule breaks the contract; the message says where, and what to mend.

    Example:
        >>> import retrograde as rg
        >>> rg.testing.check_rule(rg.rules.BPTT())
    """
    name = type(rule).__name__
    require(
        isinstance(rule, AbstractRule),
        f"`{name}` is not a rule: derive it from `retrograde.rules.AbstractRule`, or from `AbstractOnlineRule` if it "
        "runs forward in time.",
    )
    _check_fields(rule, name)
    networks = _networks(jr.key(seed)) if network is None else {"the given network": network}
    refusals: list[str] = []
    is_accepted = False
    for where, candidate in networks.items():
        try:
            case = _begin(rule, cast(candidate, dtypes()[-1]), where, jr.key(seed))
            if isinstance(rule, AbstractOnlineRule):
                _check_memory(case)
            found = _check_gradient(case)
        except _RefusedError as refusal:
            refusals.append(f"On {where}: {refusal}")
            continue
        if not is_accepted:
            is_accepted = True
            _check_compiled(case, found)
            _check_relabelling(case, found)
            if isinstance(rule, AbstractOnlineRule):
                _check_stream(case, found)
    require(
        is_accepted,
        f"`{name}` refuses every network it was tried on. If it is right to do so, name the network that it is made "
        f"for: `check_rule(rule, network)`. {' '.join(refusals)}",
    )


class _RefusedError(Exception):
    """The rule says that it has no meaning on a network."""


@dataclasses.dataclass(frozen=True)
class _Case:
    """A rule on a network, with a trial to learn from."""

    rule: Any
    name: str
    network: Network
    where: str
    rule_state: Any
    inputs: Float[Array, "time batch input"]
    targets: Float[Array, "steps batch output"]
    key: Key[Array, ""]

    def objective(self, network, rule, key):
        """Half the mean squared error of all steps but the first; the whole trajectory comes along."""
        run = _run(network, self.inputs, key, rule)
        require(
            run.outputs.shape == self.targets.shape,
            f"`{self.name}.unroll` gives outputs of shape {run.outputs.shape} where `readout_steps={READ}` asks for "
            f"{self.targets.shape}. Pass all options on to `retrograde.unroll.unroll`.",
        )
        return 0.5 * jnp.mean((run.outputs - self.targets) ** 2), run

    def value_and_grad(self, network, rule_state, key):
        return self.rule.value_and_grad(self.objective, network, rule_state=rule_state, key=key)


def _run(network, inputs, key, rule=None):
    hidden = tuple(name for name in network.populations if name != network.readout)
    return network(inputs, rule=rule, key=key, record=hidden, readout_steps=READ)


# Functions of their arguments alone, so that all rules share what is compiled for one network.
_run_compiled = eqx.filter_jit(_run)


@eqx.filter_jit
def _readout_gradient(weights, network, names, inputs, targets, key):
    """The exact gradient of the projections onto the readout."""

    def loss(weights):
        def where(network):
            return [network.projections[name].synapse for name in names]

        outputs = _run(eqx.tree_at(where, network, weights), inputs, key).outputs
        return 0.5 * jnp.mean((outputs - targets) ** 2)

    return eqx.filter_grad(loss)(weights)


def _networks(key: Key[Array, ""]) -> dict[str, Network]:
    def weights(number, rows, columns):
        return (0.4 + jr.normal(jr.fold_in(key, number), (rows, columns))) / columns**0.5

    def slab(number, rows, columns):
        pi_key, xi_key = jr.split(jr.fold_in(key, number + 100))
        shape = (rows, columns)
        return SpikeAndSlab(weights(number, *shape), 0.9 * jr.uniform(pi_key, shape), 0.3 * jr.uniform(xi_key, shape))

    def single(neuron, readout, make):
        rows = SIZE * len(neuron.ports)
        bias = Dense(0.2 * weights(3, rows, 1))
        return Network(
            {"hidden": neuron, "readout": readout},
            [
                Projection("input", "hidden", make(0, rows, INPUTS)),
                Projection("hidden", "hidden", make(1, rows, SIZE), delay=1),
                Projection("bias", "hidden", bias, frozen=True),
                Projection("hidden", "readout", make(2, OUTPUTS, SIZE)),
            ],
            inputs=INPUTS,
            readout="readout",
        )

    def dense(*shape):
        return Dense(weights(*shape))

    spiking = ALIF(SIZE, tau_mem=jnp.linspace(5.0, 30.0, SIZE), threshold=1.0, beta=0.1, tau_adapt=30.0)
    return {
        "leaky rates": single(LeakyRate(SIZE, "tanh", alpha=0.3, initial=0.1), Linear(OUTPUTS), dense),
        "adaptive spiking neurons": single(spiking, LeakyReadout(OUTPUTS, tau=5.0), dense),
        "an ensemble of gated units": single(GRU(SIZE), Linear(OUTPUTS), slab),
    }


def _check_fields(rule, name):
    for path, leaf in leaves(rule).items():
        if not eqx.is_array(leaf):
            _check_hashable(
                leaf,
                f"`{name}{path}` is {leaf!r}, which is neither an array nor hashable, so the rule cannot be an "
                "argument of a compiled function. Use a tuple for a list or a set.",
            )
    for field in dataclasses.fields(rule):
        if field.metadata.get("static"):
            _check_hashable(
                getattr(rule, field.name),
                f"The static field `{name}.{field.name}` is {getattr(rule, field.name)!r}, which cannot be hashed, so "
                "the rule cannot be an argument of a compiled function. Use a tuple for a list; arrays are not static.",
            )


def _check_hashable(thing, message):
    try:
        hash(thing)
    except TypeError:
        raise ContractError(message) from None


def _ask(case_name, what, function, *args):
    """As `attempt`, but tells a refusal, which names the rule, from a failure."""
    try:
        return attempt(what, function, *args)
    except ContractError as error:
        cause = error.__cause__
        if isinstance(cause, ValueError) and f"`{case_name}" in str(cause):
            raise _RefusedError(str(cause)) from cause
        raise


def _begin(rule, network, where, key) -> _Case:
    name, dtype = type(rule).__name__, dtypes()[-1]
    prepare_key, inputs_key, targets_key, run_key = jr.split(key, 4)
    prepared = _ask(name, f"`{name}.prepare` on {where}", lambda: rule.prepare(network, key=prepare_key))
    require(
        isinstance(prepared, Network),
        f"`{name}.prepare` must return the network, perhaps with other feedback; got {type(prepared).__name__}.",
    )
    require(
        bool(eqx.tree_equal(_forward_parts(prepared), _forward_parts(network))),
        f"`{name}.prepare` changes more than the feedback of {where}: neurons and weights must stay what they are, so "
        "that all rules train the same network. Use `network.with_feedback`.",
    )
    state = _ask(name, f"`{name}.init` on {where}", rule.init, prepared)
    outputs = prepared.populations[prepared.readout].size
    inputs = jr.uniform(inputs_key, (STEPS, BATCH, prepared.inputs), dtype, maxval=2.0)
    targets = jr.normal(targets_key, (READ, BATCH, outputs), dtype)
    return _Case(rule, name, prepared, where, state, inputs, targets, run_key)


def _forward_parts(network):
    return network.populations, {name: projection.synapse for name, projection in network.projections.items()}


def _check_memory(case):
    """What a rule carries forward keeps its structure."""
    rule, name, dtype = case.rule, case.name, case.inputs.dtype

    def remember(network, key):
        rule.check(network, BATCH, dtype.itemsize)
        moments, now = network.moments(), from_state(network, network.initial_state(BATCH, dtype))
        noise = draw_noise(network, moments, now.step, BATCH, dtype, key, {})
        at = linearise(network, moments, now, case.inputs[0], noise, credit=rule.paths)
        memory = rule.begin(network, moments, now)
        return memory, rule.push(network, moments, at, memory, case.rule_state, key)[0]

    what = f"`{name}.begin` or `{name}.push` on {case.where}"
    before, after = _ask(name, what, eqx.filter_eval_shape, remember, case.network, case.key)
    require(
        bool(eqx.tree_equal(before, after)),
        f"`{name}.push` returns a memory of another structure, shape or type than `{name}.begin`: "
        f"{eqx.tree_pformat(after)}, not {eqx.tree_pformat(before)}. A loop over time carries it.",
    )


def _check_gradient(case: _Case) -> Any:
    """Everything that is checked on every network; returns the compiled function, and what it gave."""
    where = f"`{case.name}.value_and_grad`"
    compiled = eqx.filter_jit(case.value_and_grad)
    answer = _ask(case.name, f"{where} on {case.where}", compiled, case.network, case.rule_state, case.key)
    is_right = isinstance(answer, tuple) and len(answer) == 3 and isinstance(answer[0], tuple) and len(answer[0]) == 2
    require(is_right, f"{where} must return `((loss, aux), gradient, rule_state)`, aux as the objective gives it.")
    (loss, run), gradient, rule_state = answer
    _check_forward(case, loss, run)
    _check_structure(case, where, gradient)
    _check_readout(case, gradient)
    _check_state(case, where, compiled, rule_state)
    return compiled, gradient


def _check_forward(case, loss, run):
    expected = _run_compiled(case.network, case.inputs, case.key)
    wanted, found = leaves(expected), leaves(run)
    require(
        wanted.keys() == found.keys(),
        f"`{case.name}.unroll` must return a `Trajectory` like that of `retrograde.unroll.unroll`: it has not the same "
        f"fields or populations on {case.where}.",
    )
    for path, leaf in wanted.items():
        require(
            leaf.shape == found[path].shape and _agrees(found[path], leaf),
            f"`{case.name}` changes the forward pass on {case.where}: `{path[1:]}` is not what every other rule gives "
            "for the same key. A rule may differ in how credit flows back, in nothing else; pass `key`, `noise`, "
            "`readout_steps` and the other options on to `retrograde.unroll.unroll`.",
        )
    value = 0.5 * jnp.mean((expected.outputs - case.targets) ** 2)
    require(
        jnp.shape(loss) == () and _agrees(loss, value),
        f"`{case.name}.value_and_grad` must return the objective's own loss, for the key and the network that it was "
        f"given: here {float(value):.6g}, got {loss!r}.",
    )


def _check_structure(case, where, gradient):
    wanted = leaves(eqx.filter(case.network, case.network.trainable()))
    found = leaves(gradient)
    labels = leaves(case.network.labels())
    for path, leaf in wanted.items():
        label = labels[path]
        require(
            path in found,
            f"The gradient of {where} has no entry for {label!r} on {case.where}. It must have the structure of the "
            "network, with an array for each trainable one: zeros where there is no credit.",
        )
        require(
            eqx.is_array(found[path]) and found[path].shape == leaf.shape and found[path].dtype == leaf.dtype,
            f"The gradient of {where} for {label!r} on {case.where} must be an array of shape {leaf.shape} and type "
            f"{leaf.dtype}, got {eqx.tree_pformat(found[path])}.",
        )
        require(
            is_finite(found[path]),
            f"The gradient of {where} for {label!r} is NaN or infinite on {case.where}. Guard roots and divisions with "
            "`jnp.where` on their argument; an influence is 0 before the first step.",
        )
    for path in found.keys() - wanted.keys():
        require(
            path in labels and not jnp.any(found[path]),
            f"{where} gives a gradient to {labels.get(path, path)!r} on {case.where}, which is frozen, a constant, or "
            "no part of the network. Take the weights from `moments`, and `network.trainable()` for what may learn.",
        )


def _check_readout(case, gradient):
    network, readout = case.network, case.network.readout
    inherited = (AbstractRule.value_and_grad, AbstractOnlineRule.value_and_grad)
    owners = {p.synapse.to for p in network.projections.values() if isinstance(p.synapse, Tied)}
    names = tuple(
        name
        for name, p in network.projections.items()
        if p.target == readout and not (p.frozen or name in owners or isinstance(p.synapse, Tied))
    )
    is_read = any(p.source == readout for p in network.projections.values())
    if type(case.rule).value_and_grad not in inherited or is_read or not network.populations[readout].stateless:
        return
    weights = [network.projections[name].synapse for name in names]
    expected = _readout_gradient(weights, network, names, case.inputs, case.targets, case.key)
    for name, exact in zip(names, expected, strict=True):
        off = _difference(gradient.projections[name].synapse, exact)
        require(
            off < _tolerance(),
            f"`{case.name}.unroll` does not give {name!r}, weights of a memoryless readout, their exact gradient on "
            f"{case.where} (off by {off:.2g} of the largest). No time lies between them and the loss: credit of the "
            "outputs belongs to them as it is. A rule that only estimates it overrides `value_and_grad`.",
        )


def _check_state(case, where, compiled, rule_state):
    def described(tree):
        return {path: (jnp.shape(leaf), jnp.result_type(leaf)) for path, leaf in leaves(tree).items()}

    same = described(rule_state) == described(case.rule_state)
    require(
        same and bool(jax.tree.structure(rule_state) == jax.tree.structure(case.rule_state)),  # type: ignore[operator]
        f"{where} returns a `rule_state` that differs from `{case.name}.init` in structure, shapes or types: "
        f"{eqx.tree_pformat(rule_state)}, not {eqx.tree_pformat(case.rule_state)}. A loop over updates carries it.",
    )
    require(_is_finite(rule_state), f"{where} returns a `rule_state` that is not finite.")
    if jax.tree.leaves(rule_state):
        what = f"{where} with the `rule_state` that it has returned"
        _, again, after = attempt(what, compiled, case.network, rule_state, case.key)
        require(_is_finite((again, after)), f"{where} is no longer finite in a second update.")


def _check_compiled(case, found):
    _, gradient = found
    what = f"`{case.name}.value_and_grad`"
    _, plain, _ = attempt(f"{what} without `jax.jit`", case.value_and_grad, case.network, case.rule_state, case.key)
    if _difference(plain, gradient) < _tolerance():
        return
    _, again, _ = case.value_and_grad(case.network, case.rule_state, case.key)
    require(
        _difference(plain, again) < _tolerance(),
        f"{what} gives another gradient when asked again with the same key: draw all randomness from `key`.",
    )
    raise ContractError(
        f"{what} gives another gradient when it is compiled. It must be a pure function of network, `rule_state` and "
        "key: no NumPy randomness, no counters, nothing that depends on being traced."
    )


def _check_relabelling(case, found):
    compiled, gradient = found
    name = next((name for name in case.network.populations if _may_be_relabelled(case.network, name)), None)
    _, other, _ = compiled(case.network, case.rule_state, jr.fold_in(case.key, 1))
    if name is None or _difference(other, gradient) > 0:
        return
    size = case.network.populations[name].size
    order = jnp.roll(jnp.arange(size), 1)
    expected = _relabelled(case.network, gradient, name, order)
    _, actual, _ = compiled(_relabelled(case.network, case.network, name, order), case.rule_state, case.key)
    off = _difference(actual, expected)
    require(
        off < _tolerance(),
        f"`{case.name}` treats neurons by their number: with the neurons of {name!r} in another order, the gradient is "
        f"not the same in that order (off by {off:.2g} of the largest). Nothing may depend on where a neuron stands.",
    )


def _may_be_relabelled(network: Network, name: str) -> bool:
    """Whether a population has only plain weights, and draws no noise."""
    touching = [p for p in network.projections.values() if name in (p.source, p.target)]
    return (
        name != network.readout
        and all(isinstance(p.synapse, Dense) and not (p.source_slice or p.target_slice) for p in touching)
        and all(neuron.current_noise == 0.0 for neuron in network.populations.values())
    )


def _relabelled(network: Network, tree: Network, name: str, order: Array) -> Network:
    """The network, or a gradient of it, with the neurons of a population in another order."""

    def of(projection, leaf):
        if projection.target == name:
            ports = len(projection.ports or network.populations[name].ports)
            leaf = leaf[jnp.concatenate([port * order.size + order for port in range(ports)])]
        return leaf[:, order] if projection.source == name else leaf

    def moved(tree, function):
        return jax.tree.map(lambda leaf: function(leaf) if eqx.is_array(leaf) else leaf, tree)

    for label, projection in network.projections.items():
        changed = moved(tree.projections[label], lambda leaf, projection=projection: of(projection, leaf))
        tree = eqx.tree_at(lambda n, label=label: n.projections[label], tree, changed)
    return eqx.tree_at(lambda n: n.populations[name], tree, moved(tree.populations[name], lambda leaf: leaf[order]))


def _check_stream(case, found):
    rule, name, (_, gradient) = case.rule, case.name, found
    dtype = case.inputs.dtype
    _, noise_key = jr.split(case.key)  # as a call of the network does

    @eqx.filter_jit
    def stream(network):
        def advance(carry, given):
            stream, total = carry
            inputs, target, is_read = given
            stream, outputs = rule.step(network, stream, inputs)
            credit = is_read * (outputs - target) / case.targets.size
            stream, now = rule.gradient(network, stream, credit)
            return (stream, jax.tree.map(jnp.add, total, now)), None

        start = rule.start(network, BATCH, key=noise_key, dtype=dtype)
        zero = jax.tree.map(jnp.zeros_like, eqx.filter(network, network.trainable()))
        targets = jnp.concatenate([jnp.zeros_like(case.targets[: STEPS - READ]), case.targets])
        is_read = (jnp.arange(STEPS) >= STEPS - READ).astype(dtype)
        return jax.lax.scan(advance, (start, zero), (case.inputs, targets, is_read))[0][1]

    total = attempt(f"Streaming with `{name}.start`, `step` and `gradient`", stream, case.network)
    off = _difference(total, eqx.filter(gradient, case.network.trainable()))
    require(
        off < _tolerance(),
        f"The gradients of `{name}`'s stream do not add up to the gradient of a whole trial on {case.where} (off by "
        f"{off:.2g} of the largest). `begin`, `push` and `contract` make the stream; an `unroll` of your own must come "
        "to the same.",
    )


def _is_finite(tree: Any) -> bool:
    return is_finite(eqx.filter(tree, eqx.is_inexact_array))


def _tolerance() -> float:
    return 10 * float(jnp.finfo(dtypes()[-1]).eps) ** 0.5


def _agrees(found, expected) -> bool:
    return is_close(jnp.asarray(found), jnp.asarray(expected))


def _difference(a, b) -> float:
    """Largest difference between two gradients, relative to the largest entry of the second."""
    first, second = leaves(eqx.filter(a, eqx.is_array)), leaves(eqx.filter(b, eqx.is_array))
    scale = max((float(jnp.abs(leaf).max()) for leaf in second.values()), default=0.0)
    largest = max((float(jnp.abs(first[path] - leaf).max()) for path, leaf in second.items()), default=0.0)
    return largest / scale if scale else largest
