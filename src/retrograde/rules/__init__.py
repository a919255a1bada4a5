"""How credit flows back."""

from ._abstract import AbstractRule
from ._bptt import BPTT, TruncatedBPTT

RULES = {"bptt": BPTT, "truncated_bptt": TruncatedBPTT}

__all__ = ["BPTT", "RULES", "AbstractRule", "TruncatedBPTT"]
