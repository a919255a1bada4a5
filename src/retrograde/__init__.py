"""Temporal credit assignment in recurrent networks: any network, any learning rule, any task.

Importing `retrograde` imports neither JAX nor anything else that is slow: each part is loaded when it is first used.
"""

import importlib
from typing import Any

_MODULES = (
    "analysis",
    "comparison",
    "data",
    "encoders",
    "exchange",
    "feedback",
    "losses",
    "neurons",
    "papers",
    "plots",
    "recipes",
    "reinforcement",
    "report",
    "rules",
    "synapses",
    "tasks",
    "testing",
    "theory",
    "training",
)
_NAMES = {
    "Network": "network",
    "Projection": "network",
    "Trajectory": "network",
    "Result": "training",
    "compare": "comparison",
    "coverage": "analysis",
    "evaluate": "training",
    "fit": "training",
    "optimiser": "training",
}

__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("retrograde")
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module `{__name__}` has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
