"""NIR graphs in HDF5 files."""

from pathlib import Path
from typing import Any

from retrograde.exchange._export import Subtract, to_nir
from retrograde.exchange._import import from_nir
from retrograde.exchange._nir import ExchangeError, nir_package
from retrograde.network import Network


def save(network: Network, path: str | Path, *, dt: float | None = None, subtract: Subtract = "refuse") -> None:
    """Writes a network to a file that other simulators read.

    Args:
        network: The network.
        path: The file, by custom `….nir`; one that is there is replaced.
        dt: As for `to_nir` [ms].
        subtract: As for `to_nir`.

    Raises:
        ImportError: If the package `nir` is missing.
        ExchangeError: As `to_nir`, or if the file cannot be written.
    """
    graph = to_nir(network, dt=dt, subtract=subtract)
    try:
        nir_package().write(path, graph)
    except OSError as error:
        raise ExchangeError(f"{str(path)!r} cannot be written: {error}") from None


def load(path: str | Path, *, dt: float | None = None) -> Network:
    """Reads a network from a file that `save`, or another simulator, wrote.

    Args:
        path: The file.
        dt: As for `from_nir` [ms].

    Raises:
        ImportError: If the package `nir` is missing.
        ExchangeError: As `from_nir`, or if the file is missing or holds no NIR graph.
        NetworkError: As `from_nir`.
    """
    nir = nir_package()
    if not Path(path).is_file():
        raise ExchangeError(f"There is no file {str(path)!r}.")
    try:
        graph: Any = nir.read(path)
    except Exception as error:  # the package checks a file by whatever fails first
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ExchangeError(
            f"{str(path)!r} cannot be read as a NIR graph ({reason}). It must be an HDF5 file as `nir.write` makes it."
        ) from None
    return from_nir(graph, dt=dt)
