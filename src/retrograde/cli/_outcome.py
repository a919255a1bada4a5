from typing import Any

from retrograde.cli._print import print_json, print_table

NAMES = {"mean_field": "mean-field", "annealed": "annealed", "quenched": "quenched"}


def print_outcome(outcome: Any, json: bool) -> None:
    """Prints a finished run: accuracies, kinds of connections, and where to look next."""
    summary = outcome.summary()
    if json:
        print_json(summary)
        return
    print_measures(summary)
    seeds = f", {summary['seeds']} seeds" if summary["seeds"] > 1 else ""
    print(f"{summary['recipe']}: {summary['steps']:,} updates by {summary['rule']}{seeds}, {summary['seconds']:.0f} s")
    print(f"figure  {summary['figure']}\nrun     {summary['run']}\nnext    retrograde report {summary['run']}")


def print_measures(summary: dict[str, Any]) -> None:
    """Prints the tables of `Measures.summary()`."""
    what, scale, unit = (
        ("accuracy", 100, " %") if summary["accuracy"]["mean_field"]["mean"] is not None else ("loss", 1, "")
    )
    rows = [
        [name, f"{scale * summary[what][key]['mean']:.4g}{unit} ± {scale * summary[what][key]['sd']:.2g}{unit}"]
        for key, name in NAMES.items()
    ]
    print_table(rows, ["sampling", f"test {what} (mean ± s.d., n = {summary['samples'] * summary['seeds']})"])
    if connections := summary.get("connections"):
        rows = [[name, *(f"{100 * part:.1f} %" for part in shares.values())] for name, shares in connections.items()]
        print_table(rows, ["connections", "certain (π=0, Ξ=0)", "absent (π=1)", "uncertain (rest)"])
