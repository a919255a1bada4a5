"""How credit flows back."""

from ._abstract import AbstractRule
from ._bptt import BPTT, TruncatedBPTT
from ._dni import DNI
from ._eprop import EProp
from ._eprop_3 import EProp3
from ._forward_gradient import ForwardGradient
from ._hybrid_perturbation import HybridPerturbation
from ._kernl import KeRNL
from ._kf_rtrl import KFRTRL, RKFRTRL
from ._node_perturbation import NodePerturbation
from ._online import AbstractOnlineRule, Gradient, Stream, all_credit, channels, direct, learning
from ._rflo import RFLO
from ._rtrl import RTRL
from ._snap import SnAp
from ._uoro import UORO
from ._weight_perturbation import WeightPerturbation

RULES = {
    "bptt": BPTT,
    "truncated_bptt": TruncatedBPTT,
    "e_prop": EProp,
    "e_prop_3": EProp3,
    "rflo": RFLO,
    "snap": SnAp,
    "rtrl": RTRL,
    "uoro": UORO,
    "kf_rtrl": KFRTRL,
    "r_kf_rtrl": RKFRTRL,
    "kernl": KeRNL,
    "dni": DNI,
    "weight_perturbation": WeightPerturbation,
    "node_perturbation": NodePerturbation,
    "hybrid_perturbation": HybridPerturbation,
    "forward_gradient": ForwardGradient,
}

__all__ = [
    "BPTT",
    "DNI",
    "KFRTRL",
    "RFLO",
    "RKFRTRL",
    "RTRL",
    "RULES",
    "UORO",
    "AbstractOnlineRule",
    "AbstractRule",
    "EProp",
    "EProp3",
    "ForwardGradient",
    "Gradient",
    "HybridPerturbation",
    "KeRNL",
    "NodePerturbation",
    "SnAp",
    "Stream",
    "TruncatedBPTT",
    "WeightPerturbation",
    "all_credit",
    "channels",
    "direct",
    "learning",
]
