"""Dynamics of one neuron, written elementwise."""

from ._abstract import AbstractNeuron, Current, State
from ._gru import GRU, GRUState
from ._leaky import LeakyRate, LeakyReadout, Linear, RateState
from ._lif import ALIF, LIF, ALIFState, LIFState
from ._lstm import LSTM, LSTMState
from ._surrogate import AbstractSurrogate, Triangle, spike

NEURONS = {
    "leaky_rate": LeakyRate,
    "lif": LIF,
    "alif": ALIF,
    "lstm": LSTM,
    "gru": GRU,
    "linear": Linear,
    "leaky_readout": LeakyReadout,
}

__all__ = [
    "ALIF",
    "GRU",
    "LIF",
    "LSTM",
    "NEURONS",
    "ALIFState",
    "AbstractNeuron",
    "AbstractSurrogate",
    "Current",
    "GRUState",
    "LIFState",
    "LSTMState",
    "LeakyRate",
    "LeakyReadout",
    "Linear",
    "RateState",
    "State",
    "Triangle",
    "spike",
]
