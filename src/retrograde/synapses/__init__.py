"""How the weights of a projection are represented."""

from ._abstract import AbstractSynapse, Moments, product
from ._dense import Dale, Dense, Diagonal, Identity
from ._masked import Masked, Tied
from ._spike_and_slab import SpikeAndSlab

SYNAPSES = {
    "dense": Dense,
    "spike_and_slab": SpikeAndSlab,
    "masked": Masked,
    "diagonal": Diagonal,
    "identity": Identity,
    "dale": Dale,
    "tied": Tied,
}

__all__ = [
    "SYNAPSES",
    "AbstractSynapse",
    "Dale",
    "Dense",
    "Diagonal",
    "Identity",
    "Masked",
    "Moments",
    "SpikeAndSlab",
    "Tied",
    "product",
]
