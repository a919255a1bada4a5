"""Comparisons: what is read is what is compared, on equal footing, and an interruption changes nothing."""

import csv
import dataclasses
import functools
import json
import re
import tempfile
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure
from test_analysis import Forgetful, Scaled
from test_report import Page

import retrograde as rg
from retrograde import analysis, comparison, plots, recipes
from retrograde.cli import main
from retrograde.comparison import _contender, _figures, _page, _run
from retrograde.recipes import RecipeError
from retrograde.recipes._lines import key_lines

RULES = "bptt,truncated_bptt(window=1)"
TINY = [
    *("--set", "neuron.size=4"),
    *("--set", "task.pool=14"),  # images of 2 × 2: two time steps
    *("--set", "training.batch=8"),
    *("--set", "training.log_every=1"),
    *("--set", "training.validate_every=2"),
    *("--set", "training.checkpoint_every=2"),
    *("--set", "evaluation.samples=1"),
    *("--set", "compare.points=3"),
    *("--set", "compare.batch=16"),
    *("--set", "compare.repeats=1"),
]
ARGUMENTS = ["compare", "digits-bptt", "--rules", RULES, "--steps", "4", "--seeds", "2", *TINY]


@functools.cache
def tiny_comparison() -> Path:
    """A finished comparison of two rules, two seeds, four updates. Do not change it: copy it."""
    folder = Path(tempfile.mkdtemp()) / "tiny"
    assert main([*ARGUMENTS, "--out", str(folder), "--json"]) == 0
    return folder


def tiny_plan():
    overrides = {text: text for text in TINY[1::2]} | {"a": "training.steps=4", "b": "training.seeds=2"}
    return comparison.read_plan("digits-bptt", rules=RULES, overrides=overrides)


def tables(folder=None):
    """What `compare.json` says of BPTT and of the window."""
    return json.loads((folder or tiny_comparison()).joinpath("compare.json").read_text())["outcomes"]


# Reading


def plan_of(tmp_path, text, **options):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return comparison.read_plan(path, **options)


def problems_of(tmp_path, text, **options):
    with pytest.raises(RecipeError) as caught:
        plan_of(tmp_path, text, **options)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_every_task_meets_every_network_and_every_rule(tmp_path):
    plan = plan_of(
        tmp_path,
        """
recipe = "add"
[training]
steps = 7
[[rule]]
name = "bptt"
[[rule]]
name = "truncated_bptt"
window = 3
[[rule]]
name = "truncated_bptt"
window = 9
label = "long"
[[task]]
name = "add"
t1 = 1
[[task]]
name = "add"
t1 = 2
[[network]]
[[network]]
label = "gated"
neuron = { name = "lstm", size = 5 }
[network.synapses.recurrent]
name = "dense"
weight = "zeros"
[compare]
bands = 3
""",
    )
    assert plan.name == "mine" and plan.measuring == comparison.Measuring(bands=3)
    labels = [(entry.task, entry.network, entry.rule) for entry in plan.entries]
    rules = ["bptt", "truncated_bptt(window=3)", "long"]
    expected = [(t, n, r) for t in ("add(t1=1)", "add(t1=2)") for n in ("leaky_rate", "gated") for r in rules]
    assert labels == [(t, n, r.replace("truncated_bptt(window=3)", "truncated_bptt")) for t, n, r in expected]
    recipes_of = dict(zip(labels, (entry.recipe for entry in plan.entries), strict=True))
    one = recipes_of["add(t1=2)", "gated", "long"]
    assert (one.task.parameters().t1, one.rule.parameters().window, one.training.steps) == (2, 9, 7)
    assert (one.neuron.name, one.neuron.size, one.synapses.recurrent.weight) == ("lstm", 5, "zeros")
    base = recipes.read("add")
    other = recipes_of["add(t1=1)", "leaky_rate", "bptt"]
    assert (other.neuron, other.synapses, other.optimiser) == (base.neuron, base.synapses, base.optimiser)
    assert one.synapses.input == base.synapses.input


def test_rules_of_the_command_line_take_the_place_of_the_recipes():
    plan = comparison.read_plan("digits-rules", rules="truncated_bptt(window=2),bptt(checkpoint=true, segment=3)")
    first, second = (entry.recipe.rule for entry in plan.entries)
    assert (first.name, first.parameters().window) == ("truncated_bptt", 2)
    assert (second.parameters().checkpoint, second.parameters().segment) == (True, 3)
    kept = comparison.read_plan(
        "add", rules="bptt,truncated_bptt", overrides={"--set x": 'rule={name="bptt", segment=5}'}
    )
    assert kept.entries[0].recipe.rule.parameters().segment == 5


def test_lines_of_tables_that_repeat():
    text = "[[rule]]\nname = 1\n[[rule]]\n[rule.more]\nx = 1\n[[rule]]\n[other]\n[rule.last]\n[[deep.list]]\nx = 1\n"
    assert key_lines(text) == {
        ("rule",): 1,
        ("rule", "0"): 1,
        ("rule", "0", "name"): 2,
        ("rule", "1"): 3,
        ("rule", "1", "more"): 4,
        ("rule", "1", "more", "x"): 5,
        ("rule", "2"): 6,
        ("other",): 7,
        ("rule", "2", "last"): 8,
        ("deep", "list"): 9,
        ("deep", "list", "0"): 9,
        ("deep", "list", "0", "x"): 10,
    }


TWO = '[[rule]]\nname = "bptt"\n[[rule]]\nname = "truncated_bptt"\n'


@pytest.mark.parametrize(
    "text, expected",
    [
        (f'recipe = "add"\n{TWO}windw = 3\n', "mine.toml:6: unknown key 'windw' in [rule]; did you mean 'window'?"),
        (f'recipe = "add"\n{TWO}window = 0\n', "mine.toml:6: [rule]: `TruncatedBPTT(window=...)`"),
        (
            'recipe = "add"\n' + "".join(f'[[rule]]\nname = "truncated_bptt"\nwindow = {n}\n' for n in (0, 3)),
            "mine.toml:4: [rule]: `TruncatedBPTT(window=...)`",
        ),
        (f'recipe = "add"\n{TWO}[training]\nstepz = 3\n', "mine.toml:7: unknown key 'stepz' in [training]"),
        (
            f'recipe = "add"\n{TWO}[[network]]\n[[network]]\n[network.neuron]\nsise = 2\n',
            "mine.toml:9: unknown key 'sise' in [neuron]; did you mean 'size'?",
        ),
        (f'recipe = "add"\n{TWO}[[network]]\nnuron = 2\n', "mine.toml:7: unknown key 'nuron' in [network]"),
        (f'recipe = "add"\n{TWO}[compare]\nband = 2\n', "mine.toml:7: unknown key 'band' in [compare]; did you mean"),
        (f'recipe = "add"\n{TWO}[compare]\nbands = -2\n', "mine.toml:7: [compare]: `bands` must be a whole number"),
        (f'recipe = "ad"\n{TWO}', "no recipe 'ad' comes with retrograde; did you mean 'add'?"),
        (f'recipe = "digits-rules"\n{TWO}', "mine.toml: `recipe = 'digits-rules'` is a comparison itself"),
        ('recipe = "add"\n[[rule]]\nname="bptt"\n', "mine.toml: there is nothing to compare, only 'bptt'"),
        (
            'recipe = "add"\n[[rule]]\nname="bptt"\n[[rule]]\nname="bptt"\n',
            "mine.toml: two of [[rule]] are called 'bptt'; give each",
        ),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, text, expected):
    found = problems_of(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_mistake_in_the_recipe_below_has_that_recipes_place(tmp_path):
    text = (Path(recipes.__file__).parent / "add.toml").read_text().replace("steps = 50", "stepz = 50")
    (tmp_path / "base.toml").write_text(text)
    [problem] = problems_of(tmp_path, f'recipe = "base.toml"\n{TWO}')
    assert re.fullmatch(r"base\.toml:\d+: unknown key 'stepz' in \[task\]; did you mean 'steps'\?", problem)


def test_a_comparison_is_no_recipe():
    assert "digits-rules" in recipes.describe("comparisons") and "digits-rules" not in recipes.shipped()
    with pytest.raises(RecipeError, match="run it by `retrograde compare digits-rules`"):
        recipes.read("digits-rules")


# Running


def test_all_start_from_the_same_weights_and_see_the_same_trials():
    histories = [rg.training.read_history(tiny_comparison() / outcome["run"]) for outcome in tables()]
    np.testing.assert_array_equal(histories[0].loss[:, 0], histories[1].loss[:, 0])
    assert (histories[0].loss[:, 2:] != histories[1].loss[:, 2:]).all()
    sizes = [outcome["probes"][0]["credit"]["size"]["all"] for outcome in tables()]
    assert sizes[0] == sizes[1]
    assert sizes[0][0] != sizes[0][1]  # seeds differ


def test_the_table_says_what_was_measured():
    bptt, window = tables()
    assert [(o["task"], o["network"], o["rule"]) for o in (bptt, window)] == [
        ("sequential_digits", "leaky_rate", "bptt"),
        ("sequential_digits", "leaky_rate", "truncated_bptt"),
    ]
    assert [probe["step"] for probe in bptt["probes"]] == [0, 1, 4]
    for probe in bptt["probes"]:
        np.testing.assert_allclose(probe["alignment"]["all"], 1, rtol=1e-12)
    for probe in window["probes"]:
        assert set(probe["alignment"]) == {"input->hidden", "hidden->hidden", "hidden->readout", "all"}
        cosine, ratio = np.array(probe["alignment"]["input->hidden"]).T
        assert cosine.shape == (2,) and (cosine < 1 - 1e-6).all() and (ratio != 1).all()
    for outcome, known in ((bptt, [1, 1]), (window, [1, 0])):
        for step in (0, 4):
            [credit] = [probe["credit"] for probe in outcome["probes"] if probe["step"] == step]
            assert (credit["first"], credit["last"]) == ([0, 1], [0, 1])
            np.testing.assert_allclose(credit["delivered"]["all"], 2 * [known], atol=1e-9)
            np.testing.assert_allclose(credit["cosine"]["all"], 2 * [known], atol=1e-9)
    assert "credit" not in bptt["probes"][1]
    assert bptt["coverage"] == dict.fromkeys(bptt["coverage"], "exact")
    assert window["coverage"]["input->hidden.weight"] == "approximate"
    for outcome in (bptt, window):
        assert outcome["steps"] == 4 and outcome["seeds"] == 2 and outcome["failure"] is None
        assert 0 < outcome["cost"]["seconds_per_update"] < 1
        assert outcome["cost"]["product_macs"] > 8 * 2 * 3 * 4 * 4
        values = outcome["accuracy"]["values"]
        np.testing.assert_allclose(
            [outcome["accuracy"]["mean"], outcome["accuracy"]["sd"]], [np.mean(values), np.std(values)]
        )
        measures = rg.report.Measures.load(tiny_comparison() / outcome["run"])
        np.testing.assert_allclose(values, measures.accuracies["mean-field"][:, 0])


def test_the_csv_has_a_row_for_each_seed():
    with open(tiny_comparison() / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rule"], row["seed"]) for row in rows] == [
        (rule, seed) for rule in ("bptt", "truncated_bptt") for seed in "01"
    ]
    window = tables()[1]
    for row, values in zip(rows[2:], np.array(window["probes"][-1]["alignment"]["all"]), strict=True):
        np.testing.assert_array_equal([float(row["cosine_last"]), float(row["norm_ratio_last"])], values)
        assert float(row["seconds_per_update"]) == window["cost"]["seconds_per_update"]


def test_a_run_of_it_is_a_run_by_itself(tmp_path):
    recipe = tiny_plan().entries[1].recipe
    recipes.run(recipes.build(recipe), tmp_path / "alone")
    there = tiny_comparison() / tables()[1]["run"]
    assert (tmp_path / "alone" / "metrics.csv").read_text() == (there / "metrics.csv").read_text()
    assert recipes.recipe_of(there) == recipe


def test_an_interrupted_comparison_goes_on_to_the_same_numbers(tmp_path, capsys, monkeypatch):
    for module, name in ((_run, "draw_sheet"), (_run, "write_comparison_page"), (_contender, "draw_figure")):
        monkeypatch.setattr(module, name, lambda *_: None)  # pictures take most of the time
    plan = tiny_plan()

    def interrupt(stage):
        if stage.number == 2 and stage.progress is not None and stage.progress.step >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        comparison.run_contenders(
            plan.name, comparison.contenders_of(plan), tmp_path / "parts", plan.measuring, on_progress=interrupt
        )
    first = tmp_path / "parts" / "runs" / "sequential_digits" / "leaky_rate" / "bptt"
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    assert before and not (tmp_path / "parts" / "compare.json").exists()
    assert main(["resume", str(tmp_path / "parts")]) == 0
    assert "compare.html" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before  # the finished one was left alone

    def numbers(outcomes):
        return [{key: value for key, value in outcome.items() if key != "cost"} for outcome in outcomes]

    assert numbers(tables(tmp_path / "parts")) == numbers(tables())


def test_what_was_planned_may_grow_but_not_change(tmp_path):
    plan = tiny_plan()
    one, two = comparison.contenders_of(plan)
    for contenders in ([one], [two]):
        _contender.write_json(tmp_path / "plan.json", _run._plan_for(tmp_path, "tiny", contenders, plan.measuring))
    both = comparison.plan_of(tmp_path)
    assert {(e.task, e.network, e.rule): e.recipe for e in both.entries} == {
        (e.task, e.network, e.rule): e.recipe.model_copy(update={"name": "tiny", "summary": ""}) for e in plan.entries
    }
    longer = comparison.read_plan("digits-bptt", rules=RULES, overrides={"--steps 5": "training.steps=5"})
    with pytest.raises(rg.training.RunError, match=r"another comparison: its .* / bptt has recipe\..* = .*, not "):
        _run._plan_for(tmp_path, "tiny", comparison.contenders_of(longer)[:1], plan.measuring)
    with pytest.raises(rg.training.RunError, match=r"its \[compare\] has bands = 6, not 2"):
        _run._plan_for(tmp_path, "tiny", [one], dataclasses.replace(plan.measuring, bands=2))


def recall(rules, **options):
    settings = {"optimiser": optax.sgd(0.1), "steps": 3, "batch": 4, "key": jr.key(0), "points": 1, "bands": 0}
    return rg.compare(
        lambda task, key: rg.Network.single_layer(task, rg.neurons.LeakyRate(4), key=key),
        rg.tasks.DelayedRecall(symbols=2, delay=2),
        rules=rules,
        **settings | {"repeats": 1} | options,
    )


def test_a_rule_that_leaves_parameters_without_credit_is_refused(tmp_path):
    with pytest.raises(
        analysis.CoverageError, match=r"Forgetful assigns no credit to input->hidden\.weight of network"
    ):
        recall([rg.rules.BPTT(), Forgetful()], folder=tmp_path / "here")
    assert not (tmp_path / "here").exists()


class Exploding(Scaled):
    """A gradient so long that the next weights are infinite."""

    def value_and_grad(self, objective, network, *, rule_state=None, key):
        value, gradient, _ = rg.rules.BPTT().value_and_grad(objective, network, key=key)
        return value, jax.tree.map(lambda g: 1e100 * g, gradient), rule_state


def test_a_rule_that_diverges_ends_but_the_others_go_on(tmp_path):
    found = recall([Exploding(), rg.rules.BPTT()], optimiser=optax.sgd(1e250), steps=1, folder=tmp_path / "here")
    assert [outcome.steps for outcome in found.outcomes] == [0, 1]
    assert found.outcomes[0].failure.startswith("training diverged at update 1")
    assert found.outcomes[1].failure is None
    assert "(stopped at 0)" in _page.table_rows(found.outcomes)[0][0]
    text = (tmp_path / "here" / "compare.html").read_text(encoding="utf-8")
    assert "Exploding: training diverged at update 1" in text
    with pytest.raises(rg.training.RunError, match="made without recipes"):
        comparison.plan_of(tmp_path / "here")


def test_names_must_tell_rules_apart():
    with pytest.raises(ValueError, match="several truncated_bptt; give each a name"):
        recall([rg.rules.TruncatedBPTT(1), rg.rules.TruncatedBPTT(2)])
    with pytest.raises(ValueError, match="differ in signs only: a b, a/b"):
        recall({"a b": rg.rules.BPTT(), "a/b": rg.rules.TruncatedBPTT(2)})


def test_dry_run_says_what_credit_reaches(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*ARGUMENTS, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["contenders"]
    assert list(tmp_path.iterdir()) == []
    assert [set(entry["coverage"].values()) for entry in found] == [{"exact"}, {"exact", "approximate"}]
    for entry in found:
        np.testing.assert_allclose(entry["seconds"], 4 * entry["seconds_per_update"], rtol=0.1, atol=2e-3)


# Showing


def test_points_are_even_in_the_logarithm():
    assert _contender.probe_steps(1000, 5) == [0, 1, 10, 100, 1000]
    assert _contender.probe_steps(3, 6) == [0, 1, 2, 3]
    assert _contender.probe_steps(100, 1) == [0]


def test_page_and_pictures():
    page = Page((tiny_comparison() / "compare.html").read_text(encoding="utf-8"))
    assert page.open == []
    # curves, credit and its direction before and after, alignment, three costs; then cosine and ratio of three layers
    assert len(page.images) == 9 + 6
    assert all(len(image["alt"]) > 40 and image["src"].startswith("data:image/svg+xml") for image in page.images)
    credit = next(image["alt"] for image in page.images if "before training" in image["alt"])
    assert "lags of 0 to 0, 1 to 1 steps. bptt: 1.00, 1.00; truncated_bptt: 1.00, " in credit
    assert (tiny_comparison() / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tiny_comparison() / "compare.svg").read_bytes()


def test_each_task_and_network_has_a_part_of_the_page(tmp_path):
    plan = tiny_plan()
    outcomes = [
        comparison._outcome.read_outcome(c, tiny_comparison() / c.path, {"w": "exact"})
        for c in comparison.contenders_of(plan)
    ]
    others = [
        dataclasses.replace(o, contender=dataclasses.replace(o.contender, labels=("<b>", *o.contender.labels[1:])))
        for o in outcomes
    ]
    found = comparison.Comparison("two", (*outcomes, *others), tmp_path)
    assert [len(group) for group in found.groups().values()] == [2, 2]
    text = _page.write_comparison_page(found, tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == [] and len(page.images) == 2 * 15 and "&lt;b&gt;, leaky_rate" in text
    first = [row[0] for row in _page.table_rows(outcomes)]
    assert first == ["bptt", "truncated_bptt"]
    styles = _figures.styles_of(outcomes)
    assert styles["bptt"].colour == plots.COLOURS["bptt"]


def test_credit_is_drawn_band_by_band():
    ax = Figure().subplots()
    first, last = np.array([0, 1, 4]), np.array([0, 3, 9])
    values = np.array([[1.0, 0.5, np.nan], [1.0, 0.7, np.nan]])
    plots.plot_credit_by_lag(first, last, {"rule": values}, np.array([2.0, 4.0, 0.0]), ax=ax)
    [points, *_] = [container.lines[0] for container in ax.containers if hasattr(container, "lines")]
    np.testing.assert_allclose(points.get_ydata(), [1.0, 0.6])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1–3", "4–9"]
    assert [patch.get_height() for patch in ax.patches] == [0.5, 1.0, 0.0]


def test_rules_keep_their_looks():
    names = ["rflo", "bptt", "my_rule", "e_prop", "rflo"]
    styles = plots.rule_styles(names)
    assert plots.rule_styles(names[1:])[:3] == styles[1:4]
    assert [style.colour for style in styles[:2]] == [plots.COLOURS["rflo"], plots.COLOURS["bptt"]]
    assert styles[3].colour == plots.COLOURS["e_prop"] and styles[3] == plots.rule_styles(["eprop"])[0]
    looks = [(style.colour, style.dashes) for style in plots.rule_styles(list(plots.COLOURS))]
    assert len(set(looks)) == len(looks)
    assert styles[4].colour == styles[0].colour and styles[4].dashes != styles[0].dashes


def test_the_front_is_of_those_that_nobody_beats():
    costs = {"a": 1.0, "b": 2.0, "c": 2.0, "d": 3.0, "e": 4.0}
    scores = {"a": 0.2, "b": 0.5, "c": 0.4, "d": 0.5, "e": 0.9}
    assert analysis.pareto_front(costs, scores) == ["a", "b", "e"]
    assert analysis.pareto_front(costs, scores, best="lowest") == ["a"]
    assert analysis.pareto_front({"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 0.5}) == ["a", "b"]
    with pytest.raises(ValueError, match="'highest' or 'lowest'"):
        analysis.pareto_front(costs, scores, best="best")
    ax = Figure().subplots()
    values = {name: np.array([score, score]) for name, score in scores.items()}
    plots.plot_pareto(costs, values, ["a", "b", "e"], xlabel="time (ms)", ylabel="accuracy (%)", ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 0.2], [2, 0.5], [4, 0.9]])
