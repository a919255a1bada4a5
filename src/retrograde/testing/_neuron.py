"""Does a neuron keep its contract?"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..neurons import AbstractNeuron
from ._contract import ContractError, attempt, cast, check_fields, dtypes, is_close, is_finite, leaves, require

BATCH, WARM_UP, MOST_SOURCES = 3, 5, 1024


def check_neuron(neuron: Any, *, seed: int = 0) -> None:
    """Verifies the contract of a neuron, your own or one of ours.

    Checked: `size`, the ports and the fields; structure, shapes and types of the states in float32 (and float64 where
    that is switched on); that `step` and `activity` are elementwise over neurons and trials, both in their values and
    in their derivatives; that derivatives are finite; that `step` is deterministic, compiles, and compiled gives
    the same; that every port matters; that a neuron that says it is stateless is; the standard deviation of
    the noise.

    States are checked at the beginning of a trial and after a few steps with random currents.

    Args:
        neuron: The neuron.
        seed: Seeds the random states and currents.

    Raises:
        ContractError: If the neuron breaks the contract; the message says where, and what to mend.

    Example:
        >>> import retrograde as rg
        >>> rg.testing.check_neuron(rg.neurons.LeakyRate(4))
    """
    name = type(neuron).__name__
    require(
        isinstance(neuron, AbstractNeuron),
        f"`{name}` is not a neuron: derive it from `retrograde.neurons.AbstractNeuron`.",
    )
    _check_size_and_ports(neuron, name)
    _check_parameters(neuron, name)
    for dtype in dtypes():
        _check_shapes(cast(neuron, dtype), name, dtype)
    # The last type is the widest one: there the values are compared.
    neuron = cast(neuron, dtype)
    initial = neuron.initial_state(BATCH, dtype)
    state, current = _warm_up(neuron, name, initial, jr.key(seed))
    other_state, other_current = _warm_up(neuron, name, initial, jr.fold_in(jr.key(seed), 1))
    _check_noise(neuron, name)
    _check_compiled(neuron, name, state, current)
    _check_derivatives(neuron, name, current, {"the initial state": initial, "a state in the course of a trial": state})
    _check_elementwise(neuron, name, (state, current), (other_state, other_current), seed)
    _check_ports_matter(neuron, name, state, current, other_current)
    if neuron.stateless:
        _check_stateless(neuron, name, state, other_state, current)


def _check_size_and_ports(neuron, name):
    size, ports = neuron.size, neuron.ports
    require(
        isinstance(size, int) and not isinstance(size, bool) and size > 0,
        f"`{name}.size` must be a positive whole number of neurons, got {size!r}.",
    )
    require(
        ".size" not in leaves(neuron),
        f"`{name}.size` must be a constant of the program: declare `size: int = eqx.field(static=True)`.",
    )
    require(
        isinstance(ports, tuple)
        and len(ports) > 0
        and all(isinstance(port, str) for port in ports)
        and len(set(ports)) == len(ports),
        f"`{name}.ports` must be a tuple of different names, one for each current, got {ports!r}.",
    )
    for field in ("input_ports", "recurrent_ports"):
        some = getattr(neuron, field)
        require(
            some is None
            or (isinstance(some, tuple) and len(some) > 0 and set(some) <= set(ports) and len(set(some)) == len(some)),
            f"`{name}.{field}` must be None or a tuple of different names out of `{name}.ports` = {ports!r}, got "
            f"{some!r}.",
        )


def _check_parameters(neuron, name):
    check_fields(neuron, name)
    for path, leaf in leaves(neuron).items():
        if eqx.is_inexact_array(leaf):
            require(
                leaf.ndim > 0 and leaf.shape[0] == neuron.size,
                f"`{name}{path}` has shape {leaf.shape}, but an array is a parameter of each of the {neuron.size} "
                f"neurons: its first axis must have length {neuron.size}. Use a Python float for a constant that all "
                "share.",
            )


def _check_arrays(tree, where, shape, dtype):
    for path, leaf in leaves(tree).items():
        require(
            leaf.shape == shape,
            f"{where} returns{path and ' ' + path} of shape {leaf.shape} where (batch, neuron) is {shape}. Every "
            "neuron of every trial has a number of its own.",
        )
        require(
            leaf.dtype == dtype,
            f"{where} returns{path and ' ' + path} of type {leaf.dtype} where {dtype} was asked for. Make arrays with "
            "the type of what comes in, and constants Python floats.",
        )


def _check_shapes(neuron, name, dtype):
    for batch in (1, BATCH):
        shape = (batch, neuron.size)
        where = f"`{name}.initial_state`"
        state = attempt(where, jax.eval_shape, lambda batch=batch: neuron.initial_state(batch, dtype))
        _check_arrays(state, where, shape, dtype)
        current = jax.eval_shape(lambda batch=batch: _draw_current(neuron, batch, jr.key(0), dtype))
        what = "one current" if len(neuron.ports) == 1 else f"a tuple of {len(current)} currents, one for each port,"
        where = f"`{name}.step`"
        call = f"{where} with {what} of shape {shape} and type {dtype}"
        after = attempt(call, jax.eval_shape, neuron.step, state, current)
        old, new = jax.tree.structure(state), jax.tree.structure(after)
        require(
            bool(old == new),  # type: ignore[operator]
            f"{where} returns a state of another structure than it was given: {new}, not {old}. `initial_state` and "
            "`step` must agree.",
        )
        _check_arrays(after, where, shape, dtype)
        where = f"`{name}.activity`"
        activity = attempt(where, jax.eval_shape, neuron.activity, after)
        require(
            isinstance(activity, jax.ShapeDtypeStruct), f"{where} must return one array, got {type(activity).__name__}."
        )
        _check_arrays(activity, where, shape, dtype)


def _draw_current(neuron, batch, key, dtype):
    """Currents weak and strong, of either sign."""
    shape = (len(neuron.ports), batch, neuron.size)
    size_key, sign_key = jr.split(key)
    current = jr.normal(sign_key, shape, dtype) * jnp.exp(jr.normal(size_key, shape, dtype))
    return current[0] if len(neuron.ports) == 1 else tuple(current)


def _warm_up(neuron, name, state, key):
    """A state in the course of a trial, and a current."""
    dtype = dtypes()[-1]
    for step in range(WARM_UP):
        state, activity = _advance(neuron, state, _draw_current(neuron, BATCH, jr.fold_in(key, step), dtype))
        require(
            is_finite((state, activity)),
            f"`{name}.step` or `{name}.activity` returns NaN or infinity after currents of ordinary size.",
        )
    return state, _draw_current(neuron, BATCH, jr.fold_in(key, WARM_UP), dtype)


def _check_noise(neuron, name):
    noise, channels = neuron.current_noise, neuron.size * len(neuron.ports)
    require(
        isinstance(noise, float) or (eqx.is_inexact_array(noise) and noise.shape == (channels,)),
        f"`{name}.current_noise` must be a Python float or an array with one standard deviation for each of the "
        f"{channels} currents, got {noise!r}.",
    )
    require(
        bool(np.all(np.asarray(noise) >= 0)),
        f"`{name}.current_noise` is a standard deviation and cannot be negative, got {noise!r}.",
    )


def _advance(neuron, state, current):
    after = neuron.step(state, current)
    return after, neuron.activity(after)


def _check_compiled(neuron, name, state, current):
    plain = _advance(neuron, state, current)
    require(
        bool(eqx.tree_equal(plain, _advance(neuron, state, current))),
        f"`{name}.step` gives another result when asked again: it must depend on nothing but state and current. Noise "
        "is added outside, see `current_noise`.",
    )
    # As an argument, so that its floats are traced too.
    compiled = attempt(
        f"`{name}.step` under `jax.jit`, its floats traced,",
        jax.jit(_advance),
        neuron,
        state,
        current,
    )
    require(
        is_close(plain, compiled),
        f"`{name}.step` gives another result when it is compiled. It must be a pure function of state and current.",
    )


def _check_derivatives(neuron, name, current, states):
    parameters, rest = eqx.partition(neuron, eqx.is_inexact_array)

    @jax.jit
    def gradient(parameters, state, current):
        def total(arguments):
            parameters, state, current = arguments
            return sum(map(jnp.sum, jax.tree.leaves(_advance(eqx.combine(parameters, rest), state, current))))

        return jax.grad(total)((parameters, state, current))

    for where, state in states.items():
        found = attempt(f"Differentiating `{name}.step`", gradient, parameters, state, current)
        for what, tree in zip((f"`{name}`'s parameters", "the state", "the current"), found, strict=True):
            for path, leaf in leaves(tree).items():
                require(
                    is_finite(leaf),
                    f"The derivative of `{name}.step` with respect to {what}{path and ' (' + path + ')'} is NaN or "
                    f"infinite at {where}. Guard roots, logarithms and divisions with `jnp.where` on their argument.",
                )


def _check_elementwise(neuron, name, here, there, seed):
    inputs, structure = jax.tree.flatten(here)
    x, other = jnp.stack(inputs), jnp.stack(jax.tree.leaves(there))
    state_names = ["state" + path for path in leaves(here[0])]
    ports = ["current"] if len(neuron.ports) == 1 else [f"current {port!r}" for port in neuron.ports]
    origins, ends = [*state_names, *ports], [*state_names, "activity"]

    def advance(x):
        return jnp.stack(jax.tree.leaves(_advance(neuron, *jax.tree.unflatten(structure, list(x)))))

    count = x.size
    sources = jr.permutation(jr.key(seed), count)[:MOST_SOURCES] if count > MOST_SOURCES else jnp.arange(count)

    @jax.jit
    def influence(x, other, sources):
        plain = advance(x)

        def of(source):
            one = (jnp.arange(count) == source).reshape(x.shape)
            slope = jax.jvp(advance, (x,), (one.astype(x.dtype),))[1]
            change = advance(jnp.where(one, other, x)) - plain
            elsewhere = ~one.any(axis=0)[None]
            return jnp.where(elsewhere, slope, 0), jnp.where(elsewhere & (jnp.abs(change) > 1e-5), change, 0)

        return jax.vmap(of)(sources)

    for is_slope, found in zip((True, False), influence(x, other, sources), strict=True):
        found = np.asarray(found)
        if not found.any():
            continue
        number, end, to_trial, to = np.unravel_index(np.abs(found).argmax(), found.shape)
        origin, from_trial, frm = np.unravel_index(int(sources[number]), x.shape)
        value = found[number, end, to_trial, to]
        method = "activity" if ends[end] == "activity" and not found[:, :-1].any() else "step"
        trials = from_trial != to_trial
        i, j = (f"trial {to_trial}, {to}", f"trial {from_trial}, {frm}") if trials else (to, frm)
        fact = (
            f"∂{ends[end]}[{i}]/∂{origins[origin]}[{j}] = {value:.2g}"
            if is_slope
            else f"another {origins[origin]}[{j}] changes {ends[end]}[{i}] by {value:.2g}, though its derivative is 0"
        )
        raise ContractError(
            f"`{name}.{method}` mixes {'trials' if trials else 'neurons'}: {fact}. A neuron may see only its own state "
            "and current. " + ("Sum over no axis." if trials else "Move the mixing into a projection.")
        )


def _check_ports_matter(neuron, name, state, current, other):
    if len(neuron.ports) == 1:
        require(
            not is_close(_advance(neuron, state, current), _advance(neuron, state, other)),
            f"`{name}.step` ignores its current.",
        )
        return
    for index, port in enumerate(neuron.ports):
        changed = tuple(other[i] if i == index else now for i, now in enumerate(current))
        require(
            not is_close(_advance(neuron, state, current), _advance(neuron, state, changed)),
            f"`{name}.step` ignores the current of port {port!r}. Leave it out of `ports`.",
        )


def _check_stateless(neuron, name, state, other_state, current):
    activity, other = (_advance(neuron, s, current)[1] for s in (state, other_state))
    change = float(jnp.abs(activity - other).max())
    require(
        is_close(activity, other),
        f"`{name}` says that it is `stateless`, but another state before the step changes its activity after it by "
        f"{change:.2g}. Leave `stateless` out, unless activity depends on the present current only.",
    )
