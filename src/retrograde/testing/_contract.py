"""What the checks of contracts share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class ContractError(AssertionError):
    """A part breaks its contract; the message says where, how, and what to mend."""


def require(condition: Any, message: str) -> None:
    """Raises `ContractError` unless the condition holds."""
    if not condition:
        raise ContractError(message)


def attempt(what: str, function: Callable, *args: Any) -> Any:
    """Calls the user's code; an error in it becomes a `ContractError` that says what was called."""
    try:
        return function(*args)
    except ContractError:
        raise
    except Exception as error:
        is_value = isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError)
        hint = " Use `jax.numpy`, and no `if` on values, so that it can be compiled." if is_value else ""
        raise ContractError(f"{what} fails: {type(error).__name__}: {error}{hint}") from error


def dtypes() -> tuple[Any, ...]:
    """Floating types to check: float32, and float64 where it is switched on. The widest comes last."""
    widest = jnp.result_type(float)
    return (jnp.dtype("float32"),) if widest == jnp.float32 else (jnp.dtype("float32"), widest)


def cast(part: Any, dtype: Any) -> Any:
    """Returns the part with every floating-point array in another type."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf, part)


def leaves(tree: Any) -> dict[str, Any]:
    """Leaves of a pytree by their path, like `".v"`."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def check_fields(part: Any, name: str) -> None:
    """Refuses leaves that are no numbers: the part could not be an argument of `jax.jit`."""
    for path, leaf in leaves(part).items():
        require(
            eqx.is_array_like(leaf),
            f"`{name}{path}` is {leaf!r}, which is no number, so `{name}` cannot be an argument of `jax.jit`. Mark the "
            "field as `eqx.field(static=True)`.",
        )


def is_close(first: Any, second: Any) -> bool:
    """Compares two pytrees of one structure up to what a compiler may change."""
    return bool(eqx.tree_equal(first, second, rtol=1e-5, atol=1e-6))


def is_finite(tree: Any) -> bool:
    """Whether every number of a pytree is finite."""
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))
