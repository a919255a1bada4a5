"""Okabe–Ito without yellow: told apart by colour-blind readers, and in print."""

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

# Name of a rule in recipes → colour and line style, the same in every drawing: solid for the main line of each family,
# other strokes for its relatives.
LOOKS = {
    "bptt": ("#000000", "-"),
    "truncated_bptt": ("#5F5F5F", "-"),
    "dni": ("#5F5F5F", ":"),
    "rtrl": ("#0072B2", "-"),
    "snap": ("#56B4E9", "-"),
    "e_prop": ("#D55E00", "-"),
    "e_prop_3": ("#D55E00", ":"),
    "kernl": ("#D55E00", "-."),
    "rflo": ("#E69F00", "-"),
    "uoro": ("#CC79A7", "-"),
    "kf_rtrl": ("#009E73", "-"),
    "r_kf_rtrl": ("#009E73", "-."),
    "weight_perturbation": ("#0072B2", ":"),
    "node_perturbation": ("#009E73", ":"),
    "hybrid_perturbation": ("#56B4E9", ":"),
    "forward_gradient": ("#CC79A7", ":"),
}
COLOURS = {rule: ink for rule, (ink, _) in LOOKS.items()}
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")


class Style(NamedTuple):
    """How one thing looks in every drawing.

    Attributes:
        colour: As a hexadecimal number.
        dashes: Matplotlib's name of a line style.
        marker: Matplotlib's name of a marker.
    """

    colour: str
    dashes: str
    marker: str


def colour(number: int) -> str:
    """Gives the colour of the `number`-th thing in a drawing, from 0; after seven they come again."""
    return PALETTE[number % len(PALETTE)]


def rule_styles(rules: Sequence[str]) -> list[Style]:
    """Gives each rule the look that it has in every drawing.

    A rule without a look of its own gets a dash-dotted line whose colour follows from its name. Of one rule with
    several settings the first is drawn so, the others with other strokes.

    Args:
        rules: Names of rules as recipes write them; those of one rule with other settings repeat.

    Returns:
        The styles, in the same order.

    Example:
        >>> [style.dashes for style in rule_styles(["bptt", "truncated_bptt", "truncated_bptt"])]
        ['-', '-', '--']
    """
    known = {_squeeze(name): look for name, look in LOOKS.items()}
    styles = []
    for number, rule in enumerate(rules):
        name, earlier = _squeeze(rule), [_squeeze(r) for r in rules[:number]].count(_squeeze(rule))
        code = zlib.crc32(name.encode())
        ink, dashes = known.get(name, (PALETTE[code % len(PALETTE)], "-."))
        strokes = [dashes, *(other for other in DASHES if other != dashes)]
        marker = MARKERS[(code + earlier) % len(MARKERS)]
        styles.append(Style(ink, strokes[earlier % len(strokes)], marker))
    return styles


def _squeeze(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
