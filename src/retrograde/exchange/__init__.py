"""Networks to and from other simulators and neuromorphic chips, by the Neuromorphic Intermediate Representation (NIR).

Needs the package `nir`: `pip install 'retrograde[nir]'`.
"""

from retrograde.exchange._export import to_nir as to_nir
from retrograde.exchange._files import load as load
from retrograde.exchange._files import save as save
from retrograde.exchange._import import from_nir as from_nir
from retrograde.exchange._nir import ExchangeError as ExchangeError
