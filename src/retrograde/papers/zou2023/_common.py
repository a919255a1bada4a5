"""What the studies of this paper share."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from retrograde import analysis
from retrograde.network import Network
from retrograde.synapses import SpikeAndSlab

RECURRENT = "hidden->hidden"


def slab(network: Network, projection: str) -> SpikeAndSlab:
    """The distributions over a projection's weights."""
    synapse = network.projections[projection].synapse
    assert isinstance(synapse, SpikeAndSlab)
    return synapse


def selectivity(
    responses: Sequence[Float[np.ndarray, "unit stimulus"]],
) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "seed unit"]]:
    """How many units are active, which share of these is of each kind, and every unit's index; for each seed."""
    kinds = [analysis.classify_units(one) for one in responses]
    active = np.array([float(len(one) - one.count("silent")) for one in kinds])
    names: dict[str, analysis.Selectivity] = {
        "non_selective": "non-selective",
        "mixed": "mixed",
        "uni_selective": "uni-selective",
    }
    shares = {
        name: np.array([one.count(kind) for one in kinds]) / np.maximum(active, 1) for name, kind in names.items()
    }
    return {"active": active, **shares}, np.stack([analysis.selectivity_index(one) for one in responses])
