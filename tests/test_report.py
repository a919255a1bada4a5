"""What a run comes to: numbers, figure and page."""

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from runs import tiny_run

from retrograde import analysis, plots, recipes, report
from retrograde.cli import main


def test_confusion_counts_pairs():
    labels, answers = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 0, 2])
    assert analysis.confusion_matrix(labels, answers, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    with pytest.raises(ValueError, match=r"answers.*0 to 1"):
        analysis.confusion_matrix(labels[:3], np.array([0, 1, 2]), 2)


def test_connections_are_certain_absent_or_uncertain():
    pi = np.array([0.0, 0.0, 1.0, 1.0, 0.5, 1e-12, 1 - 1e-12, 0.0])
    xi = np.array([0.0, 0.1, 0.0, 0.1, 0.0, 0.0, 0.0, 1e-12])
    shares = analysis.connection_shares(pi, xi)
    assert shares == (1 / 8, 2 / 8, 5 / 8)


def test_curves_show_mean_and_sd():
    ax = Figure().subplots()
    values = np.array([[1.0, 3.0], [3.0, 5.0]])
    plots.plot_curves({"a": (np.array([10, 20]), values)}, ylabel="loss", ax=ax)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2, 4])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert {1.0, 3.0, 5.0} <= set(band.tolist())
    assert ax.get_xlabel() == "updates"


def test_distribution_in_percent():
    ax = Figure().subplots()
    plots.plot_distribution({"a": np.array([0.0, 0.0, 0.0, 1.0])}, xlabel="π (1)", ax=ax, bins=2)
    assert ax.patches[0].get_data().values.tolist() == [75.0, 25.0]


def test_measures_survive_being_written(tmp_path):
    measures = report.Measures.load(tiny_run())
    measures.save(tmp_path)
    again = report.Measures.load(tmp_path)
    assert again.summary() == measures.summary()
    np.testing.assert_array_equal(again.confusion, measures.confusion)
    assert again.parameters.keys() == measures.parameters.keys()
    assert report.Measures.load(tmp_path / "none") is None


def test_measures_are_those_of_the_run():
    measures = report.Measures.load(tiny_run())
    assert {name: values.shape for name, values in measures.accuracies.items()} == {
        "mean-field": (1, 2),
        "annealed": (1, 2),
        "quenched": (1, 2),
    }
    right = np.trace(measures.confusion) / measures.confusion.sum()
    np.testing.assert_allclose(right, measures.accuracies["mean-field"].mean(), rtol=1e-6)
    assert measures.confusion.sum(axis=1).tolist() == [200] * 10  # 100 test digits of each class, twice
    assert {label for label in measures.parameters if label.startswith("hidden->hidden")} == {
        "hidden->hidden.m",
        "hidden->hidden.pi",
        "hidden->hidden.xi",
    }
    assert measures.parameters["hidden->hidden.m"].shape == (1, 4, 4)


def test_a_network_without_chance_needs_one_sample(tmp_path):
    experiment = recipes.build(recipes.read("recall", ["neuron.size=3", "task.delay=1"]))
    import jax.random as jr

    measures = report.measure(experiment.network(jr.key(0)), experiment.task, seeds=1, samples=9, key=jr.key(1))
    assert {values.shape for values in measures.accuracies.values()} == {(1, 1)}
    assert measures.shares() == {}


class Page(HTMLParser):
    """Collects what a page shows and what it asks for."""

    def __init__(self, text):
        super().__init__()
        self.images, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_complete_in_itself(tmp_path, capsys):
    other = tmp_path / "<i>other & sons</i>".replace("/", "|")
    shutil.copytree(tiny_run(), other)
    page_path = tmp_path / "deep" / "page.html"
    assert main(["report", str(tiny_run()), str(other), "--out", str(page_path)]) == 0
    assert capsys.readouterr().out.strip() == str(page_path)
    text = page_path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []  # every tag is closed, so names of folders were escaped
    assert "<i>other" not in text and any("other & sons" in data for data in page.text)
    # loss, held-out accuracy, samplers; then confusion, m, π and Ξ of each of the two runs
    assert len(page.images) == 3 + 2 * 4
    for image in page.images:
        assert image["src"].startswith("data:image/svg+xml;base64,")
        assert len(image["alt"]) > 20
    assert not re.search(r"""(src|href)=["']?(https?:|//)|url\(|@import|<script|<link""", text)
    for needed in ("Versions and machine", "steps = 4", "certain", "prefers-color-scheme: dark"):
        assert needed in text


def test_page_of_a_run_that_is_not_finished(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run(), run)
    (run / "measures.npz").unlink()
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert f"retrograde resume {run}" in text
    assert len(Page(text).images) == 2  # loss and held-out accuracy
