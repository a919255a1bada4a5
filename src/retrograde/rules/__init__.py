"""How credit flows back."""

from ._abstract import AbstractRule
from ._bptt import BPTT, TruncatedBPTT
from ._dni import DNI
from ._eprop import EProp
from ._kernl import KeRNL
from ._kf_rtrl import KFRTRL, RKFRTRL
from ._online import AbstractOnlineRule, Gradient, Stream
from ._rflo import RFLO
from ._rtrl import RTRL
from ._snap import SnAp
from ._uoro import UORO

RULES = {
    "bptt": BPTT,
    "truncated_bptt": TruncatedBPTT,
    "e_prop": EProp,
    "rflo": RFLO,
    "snap": SnAp,
    "rtrl": RTRL,
    "uoro": UORO,
    "kf_rtrl": KFRTRL,
    "r_kf_rtrl": RKFRTRL,
    "kernl": KeRNL,
    "dni": DNI,
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
    "Gradient",
    "KeRNL",
    "SnAp",
    "Stream",
    "TruncatedBPTT",
]
