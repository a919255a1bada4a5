"""Dynamics of one neuron, written elementwise."""

from ._abstract import AbstractNeuron, Current, State
from ._filtered import Filtered, FilteredState
from ._gru import GRU, GRUState
from ._leaky import LeakyRate, LeakyReadout, Linear, RateState
from ._lif import ALIF, LIF, ALIFState, LIFState
from ._lstm import LSTM, LSTMState
from ._surrogate import (
    SURROGATES,
    AbstractSurrogate,
    ArcTan,
    Exponential,
    FastSigmoid,
    Gaussian,
    MultiGaussian,
    Triangle,
    spike,
)
from ._yin_alif import YinALIF, YinALIFState

NEURONS = {
    "leaky_rate": LeakyRate,
    "lif": LIF,
    "alif": ALIF,
    "yin_alif": YinALIF,
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
    "SURROGATES",
    "ALIFState",
    "AbstractNeuron",
    "AbstractSurrogate",
    "ArcTan",
    "Current",
    "Exponential",
    "FastSigmoid",
    "Filtered",
    "FilteredState",
    "GRUState",
    "Gaussian",
    "LIFState",
    "LSTMState",
    "LeakyRate",
    "LeakyReadout",
    "Linear",
    "MultiGaussian",
    "RateState",
    "State",
    "Triangle",
    "YinALIF",
    "YinALIFState",
    "spike",
]
