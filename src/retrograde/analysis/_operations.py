import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp


class Operations(NamedTuple):
    """How much arithmetic a computation needs.

    Attributes:
        products: Multiply–accumulates of its matrix products [1].
        elementwise: Multiplications and divisions of real numbers outside of them, one for each element [1].
    """

    products: int
    elementwise: int

    @property
    def total(self) -> int:
        """All multiply–accumulates [1]."""
        return self.products + self.elementwise


_NONE = Operations(0, 0)


def count_operations(function: Callable, *arguments: Any) -> Operations:
    """Counts the multiply–accumulates of a computation, without running it.

    They are counted in the traced program, loops times their length (the compiler's own cost analysis counts the body
    of a loop once), and only where something that is returned depends on them. A product of matrices `m × k` and
    `k × n` counts $mkn$. Additions and functions such as `tanh` count nothing; nor do whole numbers, of which noise is
    made. A loop that ends when its data say so counts once, of several branches the longest counts.

    Args:
        function: Any function of arrays and pytrees that JAX can trace.
        *arguments: What to give it; only shapes and types matter.

    Returns:
        The numbers for one call.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def power(matrix):
        ...     return jax.lax.fori_loop(0, 10, lambda _, product: product @ matrix, matrix)
        >>> count_operations(power, jnp.eye(4))
        Operations(products=640, elementwise=0)
    """
    closed, _, _ = eqx.filter_make_jaxpr(function)(*arguments)
    operations, _ = _count(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return operations


def _count(jaxpr: Any, wanted: Sequence[bool]) -> tuple[Operations, list[bool]]:
    """Counts what the wanted outputs need; says which inputs they need."""
    needed = {var for var, is_wanted in zip(jaxpr.outvars, wanted, strict=True) if is_wanted and _is_variable(var)}
    total = _NONE
    for equation in reversed(jaxpr.eqns):
        wanted = [var in needed for var in equation.outvars]
        if not any(wanted) and not equation.effects:
            continue
        operations, used = _count_equation(equation, wanted)
        total = _add(total, operations)
        needed |= {var for var, is_used in zip(equation.invars, used, strict=True) if is_used and _is_variable(var)}
    return total, [var in needed for var in jaxpr.invars]


def _count_equation(equation: Any, wanted: list[bool]) -> tuple[Operations, list[bool]]:
    name, everything = equation.primitive.name, [True] * len(equation.invars)
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        size = equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        return Operations(size, 0), everything
    if name in ("mul", "div", "integer_pow"):
        out = equation.outvars[0].aval
        return Operations(0, out.size if jnp.issubdtype(out.dtype, jnp.inexact) else 0), everything
    if name == "scan":
        return _count_scan(equation, wanted)
    inside = list(_programs(equation.params))
    if name == "cond":
        counts = [_count(branch, wanted)[0] for branch in inside]
        return max(counts, key=lambda operations: operations.total), everything
    if len(inside) == 1 and len(inside[0].outvars) == len(wanted) and len(inside[0].invars) == len(everything):
        return _count(inside[0], wanted)
    total = _NONE
    for program in inside:
        total = _add(total, _count(program, [True] * len(program.outvars))[0])
    return total, everything


def _count_scan(equation: Any, wanted: list[bool]) -> tuple[Operations, list[bool]]:
    body = equation.params["jaxpr"].jaxpr
    # A carry has the same shape inside and outside; what is scanned or stacked has one axis more outside.
    carried = sum(map(_same_rank, equation.outvars, body.outvars))
    constants = sum(map(_same_rank, equation.invars, body.invars)) - carried
    while True:  # what one round needs of the carry, the round before must make
        operations, used = _count(body, wanted)
        before = used[constants : constants + carried]
        if not any(new and not old for new, old in zip(before, wanted[:carried], strict=True)):
            break
        wanted = [new or old for new, old in zip(before, wanted[:carried], strict=True)] + wanted[carried:]
    used[constants : constants + carried] = wanted[:carried]
    length = equation.params["length"]
    return Operations(length * operations.products, length * operations.elementwise), used


def _programs(parameters: dict[str, Any]) -> Iterator[Any]:
    """The programs inside an operation: bodies of loops, branches, called functions."""
    for value in parameters.values():
        for part in value if isinstance(value, list | tuple) else [value]:
            if hasattr(part, "jaxpr"):
                yield part.jaxpr
            elif hasattr(part, "eqns"):
                yield part


def _same_rank(outside: Any, inside: Any) -> bool:
    return bool(outside.aval.ndim == inside.aval.ndim)


def _is_variable(var: Any) -> bool:
    return not hasattr(var, "val")  # a literal has a value


def _add(a: Operations, b: Operations) -> Operations:
    return Operations(a.products + b.products, a.elementwise + b.elementwise)
