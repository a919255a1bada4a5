"""What a recipe may name: the library's public classes, and the parameters that their constructors take."""

import difflib
import importlib
import inspect
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal

import jax.random as jr
from jaxtyping import AbstractArray, Array, Key
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from retrograde.neurons import SURROGATES, AbstractSurrogate
from retrograde.recipes._initialisers import INITIALISERS
from retrograde.synapses import AbstractSynapse

CONFIG = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

# Given by the recipe's other sections, or by what builds the part.
_NOT_PARAMETERS = {"self", "size", "key", "shape"}


@cache
def registry(kind: str) -> Mapping[str, Callable]:
    """Gives the parts of one kind that a recipe may name.

    Args:
        kind: `"neurons"`, `"surrogates"`, `"synapses"`, `"rules"`, `"tasks"` or `"initialisers"`.

    Returns:
        The part's class by the name that recipes use: `LeakyRate` is `leaky_rate`, `LIF` is `lif`.
    """
    if kind == "initialisers":
        return INITIALISERS
    if kind == "surrogates":
        return SURROGATES
    return getattr(importlib.import_module(f"retrograde.{kind}"), kind.upper())


def shipped(*, comparisons: bool = False) -> dict[str, str]:
    """Lists the recipes that come with the package.

    Args:
        comparisons: Whether to list those that compare several rules instead.

    Returns:
        What each is about, by its name.
    """
    files = sorted(resources.files("retrograde.recipes").iterdir(), key=lambda file: file.name)
    contents = {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text(encoding="utf-8"))
        for file in files
        if file.name.endswith(".toml")
    }
    return {
        name: content.get("summary", "") for name, content in contents.items() if is_comparison(content) == comparisons
    }


def is_comparison(content: Mapping[str, Any]) -> bool:
    """Whether a file compares several recipes, rather than being one."""
    return "recipe" in content or any(isinstance(content.get(axis), list) for axis in ("rule", "task", "network"))


def describe(kind: str) -> dict[str, str]:
    """Says what there is of one kind.

    Args:
        kind: As for `registry`, or `"recipes"`, or `"comparisons"`.

    Returns:
        One line about each, by name.
    """
    if kind in ("recipes", "comparisons"):
        return shipped(comparisons=kind == "comparisons")
    lines = {name: inspect.cleandoc(part.__doc__ or "").partition("\n\n")[0] for name, part in registry(kind).items()}
    return {name: re.sub(r"\s+", " ", line).replace("`", "") for name, line in lines.items()}


def find(kind: str, name: str) -> Callable:
    """Gives the part that a recipe calls `name`: case and underscores do not matter (`eprop` is `e_prop`).

    Raises:
        KeyError: If there is none.
    """
    same = {_squeeze(known): part for known, part in registry(kind).items()}
    return same[_squeeze(name)]


@cache
def parameter_model(kind: str, name: str) -> type[BaseModel]:
    """Derives from a part's constructor the model that checks its section of a recipe.

    Args:
        kind: As for `registry`.
        name: As for `find`.

    Returns:
        A model with a field for each argument that TOML can say: numbers, words, booleans, lists of them, activation
        functions by name, and arrays by an initialiser.
    """
    fields: dict[str, Any] = {}
    part = find(kind, name)
    hints = typing.get_type_hints(part.__init__ if isinstance(part, type) else part, include_extras=True)
    for argument in inspect.signature(part).parameters.values():
        if argument.name in _NOT_PARAMETERS or argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        annotation = _in_toml(hints.get(argument.name, argument.annotation), kind)
        is_required = argument.default is argument.empty
        if annotation is not None:
            fields[argument.name] = (annotation, ... if is_required else Field(default=argument.default))
        elif is_required:
            raise PydanticCustomError(
                "not_in_toml",
                "{problem}",
                {"problem": f"{name!r} needs `{argument.name}`; only Python can say that, not a recipe"},
            )
    return create_model(f"{kind}.{name}", __config__=CONFIG, **fields)


class Component(BaseModel):
    """A section that names a part of the library and gives its parameters."""

    model_config = ConfigDict(**{**CONFIG, "extra": "allow"})
    kind: ClassVar[str]

    name: str

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        try:
            find(cls.kind, name)
        except KeyError:
            names = list(registry(cls.kind))
            raise PydanticCustomError(
                "unknown_name",
                "{problem}",
                {"problem": f"unknown {cls.kind[:-1]} {name!r}; {did_you_mean(name, names)}"},
            ) from None
        return name

    @model_validator(mode="after")
    def _fits(self) -> "Component":
        self.parameters()
        self._try()
        return self

    def _try(self) -> None:
        """Lets the part's own constructor refuse values that are out of its range."""

    def parameters(self) -> BaseModel:
        """Gives the checked parameters, with the defaults of those not named."""
        return parameter_model(self.kind, self.name).model_validate(self.model_extra)

    def build(self, **given: Any) -> Any:
        """Makes the part.

        Args:
            **given: What the recipe's other sections say, such as `size`.
        """
        arguments = {name: getattr(self.parameters(), name) for name in self.model_extra or {}}
        return find(self.kind, self.name)(**given, **arguments)


class Neuron(Component):
    """A section about neurons."""

    kind: ClassVar[str] = "neurons"

    def _try(self) -> None:
        self.build(size=getattr(self, "size", 1), key=jr.key(0))

    def build(self, *, size: int, key: Key[Array, ""]) -> Any:
        """Makes the neurons.

        Args:
            size: How many.
            key: Seeds the parameters that are drawn, one number for each neuron: they are trained.
        """
        arguments = {name: getattr(self.parameters(), name) for name in self.model_extra or {}}
        for number, (name, value) in enumerate(sorted(arguments.items())):
            if isinstance(value, Drawn):
                arguments[name] = value.build(key=jr.fold_in(key, number), shape=(size, 1))[:, 0]
            elif isinstance(value, Surrogate):
                arguments[name] = value.build()
        return find(self.kind, self.name)(size=size, **arguments)


class Surrogate(Component):
    """The derivative that stands in for that of a spike: a name, or a table of a name and its parameters."""

    kind: ClassVar[str] = "surrogates"

    @model_validator(mode="before")
    @classmethod
    def _from_shorthand(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Rule(Component):
    """A section about a learning rule."""

    kind: ClassVar[str] = "rules"

    def _try(self) -> None:
        self.build()


class Synapse(Component):
    """A section about the weights of a projection."""

    kind: ClassVar[str] = "synapses"

    def build(self, *, key: Key[Array, ""], shape: tuple[int, int]) -> AbstractSynapse:
        """Makes the synapse, each of its arrays from its initialiser.

        Args:
            key: Seeds the arrays. The first of each synapse, its mean, does not depend on how many there are.
            shape: Number of rows (post) and columns (pre).
        """
        parameters = self.parameters()
        if not type(parameters).model_fields:
            return find(self.kind, self.name)(size=shape[0])
        arrays = {
            name: getattr(parameters, name).build(key=jr.fold_in(key, number), shape=shape)
            for number, name in enumerate(type(parameters).model_fields)
        }
        return find(self.kind, self.name)(**arrays)


class Task(Component):
    """A section about a task."""

    kind: ClassVar[str] = "tasks"


class Initialiser(Component):
    """First values of an array: a number, a name, or a table of a name and its parameters."""

    kind: ClassVar[str] = "initialisers"

    @model_validator(mode="before")
    @classmethod
    def _from_shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"name": "constant", "value": value}
        return value


class Drawn(Component):
    """A parameter of each neuron, drawn: a table of an initialiser's name and its parameters."""

    kind: ClassVar[str] = "initialisers"


def did_you_mean(word: str, words: list[str]) -> str:
    """Suggests the nearest of `words`, or lists them."""
    same = {_squeeze(known): known for known in words}
    nearest = difflib.get_close_matches(_squeeze(word), same, n=1, cutoff=0.6)
    nearest = nearest or [known for known in same if word and known.startswith(_squeeze(word))]
    if nearest:
        return f"did you mean {same[nearest[0]]!r}?"
    return f"pick one of {', '.join(words)}" if words else "it takes no keys"


def _squeeze(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _in_toml(annotation: Any, kind: str) -> Any:
    """Gives the type that stands for `annotation` in a recipe, or None if TOML cannot say it."""
    origin = typing.get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, AbstractSurrogate):
        return Surrogate
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        if kind == "neurons":
            return Drawn
        if kind != "synapses":
            return float
        return Initialiser if len(annotation.dims) == 2 else None
    if kind == "synapses":
        return None
    if annotation in (int, float, bool, str, types.NoneType) or origin is Literal:
        return annotation
    if origin is tuple and all(_in_toml(member, kind) for member in typing.get_args(annotation) if member is not ...):
        return Annotated[annotation, Field(strict=False)]
    if origin in (typing.Union, types.UnionType):
        members = {_in_toml(member, kind): None for member in typing.get_args(annotation)}
        members.pop(None, None)
        if members.keys() - {types.NoneType}:
            return typing.Union[tuple(members)]  # noqa: UP007
    return None
