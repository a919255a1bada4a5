from pathlib import Path
from typing import Annotated, Literal

import typer

from retrograde.cli._errors import resumable
from retrograde.cli._print import Json, print_json, print_table, say
from retrograde.cli._progress import stage_progress


def papers(json: Json = False) -> None:
    """List the papers whose claims `retrograde reproduce` measures."""
    from retrograde.papers import PAPERS, read_paper

    found = [read_paper(key) for key in PAPERS]
    if json:
        print_json(
            {
                paper.key: {
                    "title": paper.title,
                    "reference": paper.reference,
                    "claims": {claim.key: claim.statement for claim in paper.claims},
                }
                for paper in found
            }
        )
        return
    for paper in found:
        rows = [
            [claim.key, claim.statement, *(_minutes(claim.minutes.get(scale)) for scale in ("laptop", "paper"))]
            for claim in paper.claims
        ]
        print_table(
            rows,
            ["claim", "what the paper says", "laptop", "paper"],
            title=f"{paper.key}: {paper.title}\n{paper.reference}\n{paper.summary}",
        )
    print(f"next    retrograde reproduce {PAPERS[0]} --scale smoke")


def _minutes(minutes: float | None) -> str:
    if minutes is None:
        return "–"
    return f"{60 * minutes:.0f} s" if minutes < 1 else f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.0f} h"


def paper_of(folder: Path) -> str | None:
    """The paper whose results a folder holds; `None` if it holds none."""
    from retrograde.papers import MARK
    from retrograde.report import read_json

    return read_json(folder / MARK, {}).get("paper")


def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="Which paper: see `retrograde papers`.")],
    claims: Annotated[
        list[str], typer.Option("--claim", metavar="NAME", help="Measure this claim only. Repeatable.")
    ] = [],  # noqa: B006
    scale: Annotated[
        Literal["smoke", "laptop", "paper"], typer.Option(help="Seconds, minutes, or the paper's own sizes.")
    ] = "laptop",
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Networks of each kind.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where results accumulate; by default reproductions/PAPER."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what is there already.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the results as a Markdown page, too.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure what a paper claims: its value, ours with the spread over seeds, and a verdict.

    Results accumulate in a folder, claim by claim; the same command goes on where it stopped.
    """
    from retrograde import papers, training

    training.compile_cache()
    chosen = papers.read_paper(paper)
    folder = Path("reproductions") / paper if out is None else out
    given = "" if scale == "laptop" else f" --scale {scale}"
    given += "".join(f" --claim {claim}" for claim in claims) + (f" --out {folder}" if out else "")
    again_by = f"retrograde reproduce {paper}{given}" + (f" --seeds {seeds}" if seeds != 3 else "")
    with resumable(folder, again_by), stage_progress() as show:
        outcomes = papers.reproduce(
            chosen,
            folder,
            scale=scale,
            seeds=seeds,
            claims=claims,
            again=again,
            on_progress=show,
            on_warning=lambda text: say(f"warning: {text}"),
        )
    report = papers.write_html(chosen, outcomes, folder / f"{scale}.html")
    if page is not None:
        papers.write_markdown(chosen, outcomes, page, again_by + f" --page {page}")
    if json:
        print_json(
            {
                "paper": paper,
                "scale": scale,
                "folder": str(folder),
                "report": str(report),
                "claims": [outcome.summary() for outcome in outcomes],
            }
        )
        return
    outcomes = [outcome for outcome in outcomes if not claims or outcome.claim.key in claims]
    print_table(papers.outcome_rows(outcomes), papers.HEAD, title=f"{chosen.title} ({chosen.reference})")
    print(f"claims  {papers.counts(outcomes)}\nreport  {report}")
    if scale == "smoke":
        minutes = sum(claim.minutes.get("laptop", 0) for claim in chosen.claims)
        print(f"next    retrograde reproduce {paper}   # {minutes:.0f} minutes")
    else:
        print(f"next    retrograde reproduce {paper}{given} --seeds {2 * seeds}   # what is trained is kept")
