"""Runs all benchmarks and writes their results into this folder's README, between its markers.

    python benchmarks/record.py [--quick] [NAME …]

Run it on a quiet machine. With names only those are measured anew; the others keep what `results/` holds.
"""

import argparse
import json
import subprocess
import sys

from _measure import FOLDER, RESULTS, describe, table

BENCHMARKS = (
    "ensemble_update",
    "multisensory",
    "rnn_bptt",
    "spiking_bptt",
    "spiking_tasks",
    "spiking_variants",
    "eprop",
    "online_rules",
    "stream_memory",
    "scaling",
    "seeds",
    "profile_update",
)
FIGURES = {
    "scaling": "Time of one gradient against steps, neurons and batch",
    "stream_memory": "Resident memory against steps of a stream",
}
BEGIN, END = "<!-- results: written by record.py -->", "<!-- end of results -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats: to see that it runs")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    RESULTS.mkdir(exist_ok=True)
    for name in options.names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        command = [sys.executable, FOLDER / f"{name}.py", "--json", *(["--quick"] if options.quick else [])]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        (RESULTS / f"{name}.json").write_text(answer)
    readme = FOLDER / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n\n{_sections()}{END}{after}")


def _sections():
    text = ""
    for name in BENCHMARKS:
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        notes = "\n".join(f"- {note}" for note in result["notes"])
        text += f"### {name}\n\n{describe(result['setting'])}\n\n{table(result['rows'])}\n\n{notes}\n\n"
        if name in FIGURES:
            text += f"![{FIGURES[name]}](results/{name}.svg)\n\n"
    return text


if __name__ == "__main__":
    main()
