"""What the studies of this paper share."""

from retrograde.network import Network
from retrograde.synapses import SpikeAndSlab

RECURRENT = "hidden->hidden"


def slab(network: Network, projection: str) -> SpikeAndSlab:
    """The distributions over a projection's weights."""
    synapse = network.projections[projection].synapse
    assert isinstance(synapse, SpikeAndSlab)
    return synapse
