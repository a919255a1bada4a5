"""Okabe–Ito without yellow: told apart by colour-blind readers, and in print."""

COLOURS = {
    "bptt": "#000000",
    "truncated_bptt": "#5F5F5F",
    "rtrl": "#0072B2",
    "snap1": "#56B4E9",
    "eprop": "#D55E00",
    "rflo": "#E69F00",
    "uoro": "#CC79A7",
    "kf_rtrl": "#009E73",
}
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def colour(number: int) -> str:
    """Gives the colour of the `number`-th thing in a drawing, from 0; after seven they come again."""
    return PALETTE[number % len(PALETTE)]
