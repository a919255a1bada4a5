"""Networks: populations of neurons joined by projections."""

import difflib
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from . import feedback as feedback_operators
from .feedback import AbstractFeedback, Adaptive
from .neurons import AbstractNeuron
from .synapses import AbstractSynapse, Dense, Diagonal, Moments, Tied
from .unroll import Stage, State, Trajectory, Wire, initial_state, unroll

INPUT, BIAS = "input", "bias"
Weights = Literal["mean-field", "annealed", "quenched", "mean"]


class NetworkError(ValueError):
    """A graph that cannot be simulated; the message names the part and what to do."""


class Projection(eqx.Module):
    """Connections from one population to another, all with one delay.

    A list of delays is a list of projections (one weight matrix each); one source may have any number of targets.

    Attributes:
        source: Name of a population, `"input"`, or `"bias"` (a constant 1).
        target: Name of a population.
        synapse: The weights.
        delay: Number of steps after which activity arrives; a cycle needs at least one step in all [steps].
        feedback: What carries credit backwards in place of the transpose of the mean weights (see
            `retrograde.feedback`), or `None` for the exact transpose.
        frozen: Whether the weights are constants: no gradient, no update.
        ports: Ports of the target that the rows of the synapse belong to; all of them if `None`.
        source_slice: Neurons `(start, stop)` of the source that are read; all of them if `None`.
        target_slice: Neurons `(start, stop)` of the target that are reached; all of them if `None`.
        name: Name of the projection, `"source->target"` if `None` (with `"@delay"` behind it from 2 steps on).
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    synapse: AbstractSynapse
    delay: int = eqx.field(static=True, default=0)
    feedback: AbstractFeedback | None = None
    frozen: bool = eqx.field(static=True, default=False)
    ports: tuple[str, ...] | None = eqx.field(static=True, default=None)
    source_slice: tuple[int, int] | None = eqx.field(static=True, default=None)
    target_slice: tuple[int, int] | None = eqx.field(static=True, default=None)
    name: str | None = eqx.field(static=True, default=None)

    @property
    def label(self) -> str:
        """`name`, or the name made from source, target and delay."""
        return self.name or f"{self.source}->{self.target}" + (
            f"@{self.delay}" if isinstance(self.delay, int) and self.delay > 1 else ""
        )


class Network(eqx.Module):
    """Populations of neurons joined by projections, advancing in discrete time.

    In each step the populations are evaluated in the order of their undelayed projections. Before the first step
    a population's activity is that of its initial state, and the input is 0.

    Attributes:
        populations: Neurons by name.
        projections: Projections by name.
        inputs: Number of input channels.
        readout: Name of the population whose activity is the output.
        stages: Groups of populations in the order of evaluation; the populations of a group depend on each other
            through time and share one loop, everything between groups is one product over all time steps.

    Raises:
        NetworkError: If a name is unknown or taken, sizes do not fit, undelayed projections form a loop, or a
            population cannot be reached from the input or cannot reach the readout.

    Example:
        >>> import jax, jax.numpy as jnp, retrograde as rg
        >>> w = jnp.eye(2)
        >>> network = rg.Network(
        ...     {"hidden": rg.neurons.LeakyRate(2, "relu"), "readout": rg.neurons.Linear(2)},
        ...     [
        ...         rg.Projection("input", "hidden", rg.synapses.Dense(w)),
        ...         rg.Projection("hidden", "hidden", rg.synapses.Dense(w), delay=1),
        ...         rg.Projection("hidden", "readout", rg.synapses.Dense(w)),
        ...     ],
        ...     inputs=2,
        ...     readout="readout",
        ... )
        >>> network(jnp.ones((3, 1, 2))).outputs[-1].tolist()
        [[3.0, 3.0]]
    """

    populations: dict[str, AbstractNeuron]
    projections: dict[str, Projection]
    inputs: int = eqx.field(static=True)
    readout: str = eqx.field(static=True)
    stages: tuple[Stage, ...] = eqx.field(static=True)

    def __init__(
        self,
        populations: Mapping[str, AbstractNeuron],
        projections: Iterable[Projection],
        *,
        inputs: int,
        readout: str,
    ):
        projections = list(projections)
        if isinstance(inputs, bool) or not isinstance(inputs, int) or inputs < 1:
            raise NetworkError(f"`Network(inputs=...)` must be a positive number of channels, got {inputs!r}.")
        # NumPy's numbers are numbers: constants of a neuron, not arrays that learn.
        self.populations = jax.tree.map(lambda x: float(x) if isinstance(x, np.floating) else x, dict(populations))
        self.projections = {}
        self.inputs = inputs
        self.readout = readout
        for name in self.populations:
            if name in (INPUT, BIAS):
                raise NetworkError(f"A population cannot be called {name!r}: that name is reserved for a source.")
        if readout not in self.populations:
            raise NetworkError(f"`Network(readout={readout!r})`: {_unknown(readout, self.populations)}")
        for projection in projections:
            if projection.label in self.populations:
                raise NetworkError(
                    f"A projection and a population are both called {projection.label!r}; parameter groups could not "
                    "tell them apart. Rename one."
                )
            if projection.label in self.projections:
                raise NetworkError(
                    f"There are two projections called {projection.label!r}. Give one of them a `name`, or add their "
                    "weights in one projection."
                )
            self.projections[projection.label] = projection
        for projection in projections:
            _check_ends(self, projection)
        for projection in projections:
            _check_sizes(self, projection)
        self.stages = _stages(self)
        _check_reachable(self)

    @classmethod
    def single_layer(
        cls,
        task: Any,
        neuron: AbstractNeuron,
        *,
        synapse: Any = Dense,
        readout: AbstractNeuron | None = None,
        key: Key[Array, ""],
    ) -> "Network":
        """Builds the usual network: input → one recurrent population → readout, with common initial weights.

        Input and readout weights are N(0, 1/fan-in), recurrent weights orthogonal (the identity for a LeakyRate with
        ReLU and `leak="current"`). A neuron with several ports gets a bias on each, at first 0; its weights reach its
        `input_ports` and `recurrent_ports`. `SpikeAndSlab` starts with π = 0 and Ξ uniform on (0, 0.1/fan-in).

        Args:
            task: Anything with numbers of `inputs` and `outputs`.
            neuron: The recurrent population.
            synapse: `Dense` or `SpikeAndSlab`, for all three projections.
            readout: The readout population; `Linear(task.outputs)` if `None`.
            key: Seeds the weights.
        """
        from .neurons import LeakyRate, Linear
        from .synapses import SpikeAndSlab

        readout = Linear(task.outputs) if readout is None else readout
        in_key, rec_key, out_key, xi_key = jr.split(key, 4)
        into, again = neuron.input_ports, neuron.recurrent_ports

        def normal(key, shape):
            return jr.normal(key, shape) / shape[1] ** 0.5

        if isinstance(neuron, LeakyRate) and neuron.activation == "relu" and neuron.leak == "current":
            recurrent = jnp.eye(neuron.size)
        else:
            blocks = jr.split(rec_key, len(again or neuron.ports))
            recurrent = jnp.concatenate([jr.orthogonal(k, neuron.size) for k in blocks])

        def weights(mean, key):
            if synapse is SpikeAndSlab:
                xi = jr.uniform(key, mean.shape) * (0.1 / mean.shape[1])
                return SpikeAndSlab(mean, jnp.zeros_like(mean), xi)
            return synapse(mean)

        xi_in, xi_rec, xi_out = jr.split(xi_key, 3)
        inward = normal(in_key, (currents(neuron, into), task.inputs))
        outward = normal(out_key, (currents(readout, readout.input_ports), neuron.size))
        projections = [
            Projection(INPUT, "hidden", weights(inward, xi_in), ports=into),
            Projection("hidden", "hidden", weights(recurrent, xi_rec), delay=1, ports=again),
            Projection("hidden", "readout", weights(outward, xi_out), ports=readout.input_ports),
        ]
        if len(neuron.ports) > 1:
            projections.append(Projection(BIAS, "hidden", Dense(jnp.zeros((currents(neuron, None), 1)))))
        return cls({"hidden": neuron, "readout": readout}, projections, inputs=task.inputs, readout="readout")

    def __call__(
        self,
        inputs: Float[Array, "time batch input"],
        *,
        rule: Any = None,
        key: Key[Array, ""] | None = None,
        noise: dict[str, Float[Array, "time batch channel"]] | None = None,
        drive: dict[str, Float[Array, "time batch channel"]] | None = None,
        weights: Weights = "mean-field",
        state: State | None = None,
        readout_steps: int | None = None,
        record: tuple[str, ...] = (),
    ) -> Trajectory:
        """Runs the network over trials; differentiating through the call follows the rule.

        Args:
            inputs: Input activity, `"time batch input"`.
            rule: How the unrolled computation is transposed; plain differentiation if `None`.
            key: Seeds the noise; needed where weights or states fluctuate.
            noise: Standardised noise of the synaptic currents for each population, in place of draws (for tests and
                for comparing rules on the same draw) [1]. Gradients do not flow into it.
            drive: Further current for each population [unit of the current]. The gradient with respect to it is the
                credit of that population.
            weights: What random weights do: `"mean-field"` pools their fluctuation into one Gaussian draw for each
                neuron and step; `"annealed"` draws the weights anew in each step, `"quenched"` once for all steps
                (both for all trials alike); `"mean"` switches fluctuations off.
            state: Where to go on from; the initial state if `None`, drawn by `key` where it is random.
            readout_steps: Return the outputs of this many last steps only; of all if `None`.
            record: Names of populations whose activity is returned too.

        Returns:
            Outputs `"steps batch readout"`, recorded activity `"time batch neuron"`, and the final state.

        Raises:
            ValueError: If `inputs` or `state` does not fit the network, a name, shape or choice is wrong, or `key` is
                missing.
        """
        if jax.tree.leaves(self.populations):
            held = jax.tree.map(_hold, self.populations, self.trainable().populations)
            self = eqx.tree_at(lambda n: n.populations, self, held)
        moments = self.moments()
        self._check_call(inputs, record, readout_steps)
        if weights not in get_args(Weights):
            raise ValueError(f"`weights={weights!r}` must be one of {', '.join(map(repr, get_args(Weights)))}.")
        self._check_currents("noise", noise or {}, inputs)
        self._check_currents("drive", drive or {}, inputs)
        if any(_rate(neuron.current_noise) for neuron in self.populations.values()) and key is None:
            raise ValueError("This network's states are noisy: pass `key=` so that the noise can be drawn.")
        random = any(m.variance is not None for m in moments.values())
        if random and weights == "mean-field" and key is None and noise is None:
            raise ValueError(
                "This network's weights are distributions: pass `key=` so that noise can be drawn, or "
                '`weights="mean"` for the network of mean weights.'
            )
        if random and weights in ("annealed", "quenched") and key is None:
            raise ValueError(f'`weights="{weights}"` draws weights: pass `key=`.')
        noise_key = resample = None
        if key is not None:
            weights_key, noise_key = jr.split(key)
            if random and weights == "quenched":
                moments = self._draw(weights_key)
            elif random and weights == "annealed":
                resample = lambda step: self._draw(jr.fold_in(weights_key, step))  # noqa: E731
        if weights == "mean":
            moments = {name: Moments(m.mean) for name, m in moments.items()}
        if state is None:
            state = self.initial_state(inputs.shape[1], inputs.dtype, noise_key)
        else:
            self._check_state(state, inputs)
        run = unroll if rule is None else rule.unroll
        return run(
            self,
            moments,
            state,
            inputs,
            key=noise_key,
            noise=noise or {},
            drive=drive or {},
            resample=resample,
            readout_steps=readout_steps,
            record=record,
        )

    def initial_state(self, batch: int, dtype=None, key: Key[Array, ""] | None = None) -> State:
        """Returns the state before the first step, for `batch` trials; drawn where a neuron begins at random."""
        return initial_state(self, batch, dtype, key)

    def moments(self) -> dict[str, Moments]:
        """Mean and variance of the weights of every projection, ties resolved, frozen ones cut off from gradients."""
        return self._resolve(lambda name, synapse: synapse.moments())

    def _draw(self, key: Key[Array, ""]) -> dict[str, Moments]:
        names = sorted(self.projections)  # transformations of JAX sort a dict's keys
        return self._resolve(lambda name, synapse: synapse.sample(jr.fold_in(key, names.index(name))))

    def _resolve(self, moments_of) -> dict[str, Moments]:
        resolved = {}
        for name, projection in self.projections.items():
            if not isinstance(projection.synapse, Tied):
                moments = moments_of(name, projection.synapse)
                resolved[name] = jax.lax.stop_gradient(moments) if projection.frozen else moments
        for name, projection in self.projections.items():
            if isinstance(projection.synapse, Tied):
                moments = resolved[projection.synapse.to]
                moments = moments.transpose() if projection.synapse.transposed else moments
                resolved[name] = jax.lax.stop_gradient(moments) if projection.frozen else moments
        return resolved

    def sample(self, key: Key[Array, ""]) -> "Network":
        """Draws one network of the ensemble: every random weight becomes a number (a quenched draw)."""
        drawn = self._draw(key)
        network = self
        for name, projection in self.projections.items():
            if not isinstance(projection.synapse, Tied) and projection.synapse.moments().variance is not None:
                mean = drawn[name].mean
                dense = Dense(mean) if mean.ndim == 2 else Diagonal(mean)
                network = eqx.tree_at(lambda n, name=name: n.projections[name].synapse, network, dense)
        return network

    def project(self) -> "Network":
        """Puts the parameters of all synapses and neurons back into their range, after an optimiser's step."""
        # By name: the copy that `tree_at` shows holds its projections in sorted order.
        network = eqx.tree_at(
            lambda n: [n.projections[name].synapse for name in self.projections],
            self,
            [p.synapse.project() for p in self.projections.values()],
        )
        if jax.tree.leaves(self.populations):
            projected = {name: neuron.project() for name, neuron in self.populations.items()}
            network = eqx.tree_at(lambda n: n.populations, network, projected)
        for name, projection in self.projections.items():
            if isinstance(projection.feedback, Adaptive) and projection.feedback.decay and not projection.frozen:
                keep = 1 - projection.feedback.decay
                network = eqx.tree_at(
                    lambda n, name=name: (n.projections[name].synapse, n.projections[name].feedback.weight),
                    network,
                    (network.projections[name].synapse.scaled(keep), keep * projection.feedback.weight),
                )
        return network

    def with_feedback(
        self,
        kind: str,
        *,
        key: Key[Array, ""],
        projections: Iterable[str] | None = None,
        scale: float | None = None,
        decay: float = 1e-2,
    ) -> "Network":
        """The same network with other feedback: same forward, other credit.

        Args:
            kind: `"exact"`, `"random"`, `"adaptive"`, `"sign"` or `"uniform"`; see `retrograde.feedback`.
            key: Seeds the matrices, one for each projection.
            projections: Names of projections; by default all from a population to the readout.
            scale: As for `retrograde.feedback.draw`.
            decay: As for `retrograde.feedback.draw`.

        Raises:
            ValueError: If `kind` is unknown.
            NetworkError: If a name is unknown or a projection is one-to-one.
        """
        if projections is None:
            wanted = [
                n for n, p in self.projections.items() if p.target == self.readout and p.source in self.populations
            ]
        else:
            wanted = list(projections)
        network = self
        for name in wanted:
            if name not in self.projections:
                raise NetworkError(f"`with_feedback`: {_unknown(name, self.projections, 'projection')}")
            projection = self.projections[name]
            where = sorted(self.projections).index(name)
            operator = feedback_operators.draw(
                kind, projection.synapse.shape, key=jr.fold_in(key, where), scale=scale, decay=decay
            )
            network = eqx.tree_at(
                lambda n, name=name: n.projections[name].feedback, network, operator, is_leaf=lambda leaf: leaf is None
            )
            _check_feedback(network, network.projections[name])
        return network

    def trainable(self) -> "Network":
        """Which leaves an optimiser may change: a network of booleans, for `eqx.partition`."""
        mask = jax.tree.map(eqx.is_inexact_array, self)
        for name, projection in self.projections.items():
            if projection.frozen:
                mask = eqx.tree_at(
                    lambda n, name=name: n.projections[name], mask, jax.tree.map(lambda _: False, projection)
                )
        return jax.tree_util.tree_map_with_path(
            lambda path, flag: flag and _leaf_name(path) not in self._constants(path), mask
        )

    def _constants(self, path) -> tuple[str, ...]:
        node: Any = self
        names: tuple[str, ...] = ()
        for entry in path:
            owners = AbstractSynapse | AbstractFeedback | AbstractNeuron
            names = getattr(node, "constants", ()) if isinstance(node, owners) else ()
            if hasattr(entry, "name"):
                node = getattr(node, entry.name)
            else:
                node = node[entry.key if hasattr(entry, "key") else entry.idx]
        return names

    def labels(self) -> "Network":
        """Names of all leaves for parameter groups: a network of strings like `"hidden->hidden.pi"`."""

        def label(path):
            is_feedback = any(getattr(entry, "name", None) == "feedback" for entry in path)
            return f"{path[1].key}.{'feedback' if is_feedback else _leaf_name(path)}"

        return jax.tree_util.tree_map_with_path(lambda path, _: label(path), self)

    def _check_call(self, inputs, record, readout_steps) -> None:
        if jnp.ndim(inputs) != 3 or inputs.shape[2] != self.inputs or 0 in inputs.shape:
            raise ValueError(
                f"`inputs` must have axes (time, batch, {self.inputs}), none of them empty, got shape "
                f"{jnp.shape(inputs)}."
            )
        if not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ValueError(
                f"`inputs` must be floating point, got {inputs.dtype}: convert with `.astype(...)` to the type of the "
                "weights."
            )
        if readout_steps is not None and not 1 <= readout_steps <= inputs.shape[0]:
            raise ValueError(f"`readout_steps={readout_steps}` must lie between 1 and the {inputs.shape[0]} steps.")
        for name in record:
            if name not in self.populations:
                raise ValueError(f"`record`: {_unknown(name, self.populations)}")

    def _check_currents(self, argument: str, given: Mapping[str, Array], inputs: Array) -> None:
        for name, value in given.items():
            if name not in self.populations:
                raise ValueError(f"`{argument}`: {_unknown(name, self.populations)}")
            neuron = self.populations[name]
            shape = (*inputs.shape[:2], neuron.size * len(neuron.ports))
            if jnp.shape(value) != shape:
                raise ValueError(
                    f"`{argument}[{name!r}]` must have axes (time, batch, current), here {shape}, got shape "
                    f"{jnp.shape(value)}."
                )

    def _check_state(self, state: State, inputs: Array) -> None:
        wanted = jax.eval_shape(lambda: self.initial_state(inputs.shape[1], inputs.dtype))
        if jax.tree.structure(state) != jax.tree.structure(wanted):  # type: ignore[operator]
            raise ValueError("`state` is not one of this network: take it from `initial_state` or from a trajectory.")
        for (path, leaf), right in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(wanted), strict=True):
            if jnp.shape(leaf) != right.shape or jnp.result_type(leaf) != right.dtype:
                raise ValueError(
                    f"`state{jax.tree_util.keystr(path)}` must have shape {right.shape} and type {right.dtype} for "
                    f"{inputs.shape[1]} trials, got shape {jnp.shape(leaf)} and type {jnp.result_type(leaf)}."
                )


def currents(neuron: AbstractNeuron, ports: tuple[str, ...] | None) -> int:
    """Counts the currents that all neurons have at these ports, at all of them if `None`: the rows of the weights."""
    return neuron.size * len(ports or neuron.ports)


def _rate(noise) -> bool:
    return not isinstance(noise, float) or noise != 0.0


def _leaf_name(path) -> str:
    names = [entry.name for entry in path if hasattr(entry, "name")]
    return names[-1]


def _unknown(name: str, known: Iterable[str], kind: str = "population") -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no {kind} {name!r} among {', '.join(map(repr, known))}{hint}"


def _check_ends(network: Network, projection: Projection) -> None:
    label = projection.label
    if projection.source not in (INPUT, BIAS) and projection.source not in network.populations:
        known = [INPUT, BIAS, *network.populations]
        raise NetworkError(f"Projection {label!r}: source: {_unknown(projection.source, known)}")
    if projection.target in (INPUT, BIAS):
        raise NetworkError(f"Projection {label!r} ends at {projection.target!r}, which is a source only.")
    if projection.target not in network.populations:
        raise NetworkError(f"Projection {label!r}: target: {_unknown(projection.target, network.populations)}")
    if isinstance(projection.delay, bool) or not isinstance(projection.delay, int) or projection.delay < 0:
        raise NetworkError(
            f"Projection {label!r}: `delay` must be a whole number of steps, 0 or more, got {projection.delay!r}. "
            "For several delays make one projection each."
        )
    ports = network.populations[projection.target].ports
    if len(set(projection.ports or ())) < len(projection.ports or ()):
        raise NetworkError(f"Projection {label!r} names a port twice: {', '.join(projection.ports or ())}.")
    for port in projection.ports or ():
        if port not in ports:
            raise NetworkError(
                f"Projection {label!r}: {projection.target!r} has no port {port!r}; its ports are {', '.join(ports)}."
            )


def _size(network: Network, name: str) -> int:
    return {INPUT: network.inputs, BIAS: 1}.get(name) or network.populations[name].size


def _extent(label: str, end: str, size: int, extent: tuple[int, int] | None) -> int:
    if extent is None:
        return size
    start, stop = extent
    if not 0 <= start < stop <= size:
        raise NetworkError(f"Projection {label!r}: {end} slice {start}:{stop} is empty or outside 0:{size}.")
    return stop - start


def _check_sizes(network: Network, projection: Projection) -> None:
    label, synapse = projection.label, projection.synapse
    target = network.populations[projection.target]
    pre = _extent(label, "source", _size(network, projection.source), projection.source_slice)
    post = _extent(label, "target", target.size, projection.target_slice)
    rows = post * len(projection.ports or target.ports)
    if isinstance(synapse, Tied):
        if synapse.to not in network.projections:
            raise NetworkError(f"Projection {label!r} is tied to {synapse.to!r}, which is no projection.")
        owner = network.projections[synapse.to].synapse
        if isinstance(owner, Tied):
            raise NetworkError(
                f"Projection {label!r} is tied to {synapse.to!r}, which is itself tied to {owner.to!r}. "
                "Tie both to the projection that owns the weights."
            )
        shape = owner.shape[::-1] if synapse.transposed else owner.shape
        if shape != synapse.shape:
            raise NetworkError(
                f"Projection {label!r} is tied to weights of {shape[0]} rows and {shape[1]} columns, but declares "
                f"{synapse.rows} and {synapse.columns}."
            )
    if synapse.shape != (rows, pre):
        raise NetworkError(
            f"Projection {label!r} has a synapse of {synapse.shape[0]} rows and {synapse.shape[1]} columns, but "
            f"{projection.target!r} takes {rows} currents and {projection.source!r} gives {pre} activities; "
            f"the weights must have shape ({rows}, {pre})."
        )
    _check_feedback(network, projection)


def _check_feedback(network: Network, projection: Projection) -> None:
    if projection.feedback is None:
        return
    label, synapse = projection.label, projection.synapse
    if projection.feedback.shape not in (None, synapse.shape):
        raise NetworkError(
            f"Projection {label!r}: `feedback` must have the shape of the weights, {synapse.shape}, got "
            f"{projection.feedback.shape}."
        )
    for leaf in jax.tree.leaves(projection.feedback):
        if not isinstance(leaf, jax.core.Tracer) and not jnp.isfinite(leaf).all():
            raise NetworkError(
                f"Projection {label!r}: `feedback` holds numbers that are not finite; every gradient that passes it "
                "would be NaN. Look at where the matrix comes from."
            )
    owner = network.projections[synapse.to].synapse if isinstance(synapse, Tied) else synapse
    if jax.eval_shape(owner.moments).mean.ndim == 1:
        raise NetworkError(
            f"Projection {label!r} is one-to-one, so it has no matrix that `feedback` could stand for. Use `Dense`."
        )
    if isinstance(synapse, Tied) and isinstance(projection.feedback, Adaptive):
        raise NetworkError(
            f"Projection {label!r} borrows its weights from {synapse.to!r}, so feedback cannot learn with them. Put "
            "adaptive feedback on a projection that owns its weights."
        )


def _stages(network: Network) -> tuple[Stage, ...]:
    """Groups populations that depend on each other through time; orders the groups and the populations in each."""
    names = list(network.populations)
    edges = [p for p in network.projections.values() if p.source in network.populations]
    undelayed = {name: [p.source for p in edges if p.target == name and p.delay == 0] for name in names}
    try:
        order = list(TopologicalSorter(undelayed).static_order())
    except CycleError as error:
        loop = " -> ".join(reversed(error.args[1]))
        raise NetworkError(
            f"The undelayed projections form a loop, {loop}: each activity would depend on itself in the same step. "
            "Give one of these projections `delay=1`."
        ) from None
    reach = {name: _reachable([p.target for p in edges if p.source == name], edges) for name in names}
    groups: list[list[str]] = []
    for name in order:
        group = next((g for g in groups if name in reach[g[0]] and g[0] in reach[name]), None)
        groups.append([name]) if group is None else group.append(name)
    after = {
        i: [j for j, b in enumerate(groups) if j != i and any(a in reach[c] for a in group for c in b)]
        for i, group in enumerate(groups)
    }
    return tuple(_stage(network, tuple(groups[i])) for i in TopologicalSorter(after).static_order())


def _stage(network: Network, group: tuple[str, ...]) -> Stage:
    def wires(inside: bool) -> tuple[Wire, ...]:
        return tuple(
            Wire(label, p.source, p.target, p.delay, p.source_slice, p.target_slice, p.ports)
            for label, p in network.projections.items()
            if p.target in group and (p.source in group) == inside
        )

    return Stage(group, wires(inside=False), wires(inside=True))


def _hold(leaf: Any, is_trained: bool) -> Any:
    """Cuts an array that is not trained off from gradients."""
    return leaf if is_trained or not eqx.is_inexact_array(leaf) else jax.lax.stop_gradient(leaf)


def _reachable(start: Iterable[str], edges: list[Projection]) -> set[str]:
    seen: set[str] = set()
    frontier = list(start)
    while frontier:
        name = frontier.pop()
        if name not in seen:
            seen.add(name)
            frontier += [p.target for p in edges if p.source == name]
    return seen


def _check_reachable(network: Network) -> None:
    edges = list(network.projections.values())
    fed = _reachable([p.target for p in edges if p.source == INPUT], edges)
    for name in network.populations:
        if name not in fed:
            raise NetworkError(
                f"Population {name!r} cannot be reached from the input, so nothing a trial does changes it. "
                "Add a projection to it, or leave it out."
            )
        if network.readout not in _reachable([name], edges):
            raise NetworkError(
                f"Population {name!r} cannot influence the readout {network.readout!r}, so it could never receive "
                "credit. Add a projection from it, or leave it out."
            )
