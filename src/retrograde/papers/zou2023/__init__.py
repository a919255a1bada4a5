"""Zou, Li & Huang (2023): an ensemble of networks in place of a network."""

from retrograde.papers._claim import Band, Claim, Paper
from retrograde.papers.zou2023 import _digits as digits
from retrograde.papers.zou2023 import _multisensory as multisensory
from retrograde.papers.zou2023 import _plasticity as plasticity
from retrograde.papers.zou2023 import _theory as theory

_RERUN = "from runs of the authors' programs by us; the paper prints no number that we know"

PAPER = Paper(
    key="zou2023",
    title="Ensemble perspective for understanding temporal credit assignment",
    reference="Zou, Li & Huang (2023), Phys. Rev. E 107, 024307; arXiv:2102.03740",
    summary="Every connection is a spike-and-slab distribution (m, π, Ξ); training moves a whole ensemble of networks.",
    notes="""
Algorithm, constants and kernels are those of the authors' public programs. Of the paper's text we know the abstract,
the introduction and what others report of the rest: where a number is not known to us, the stated shape is judged, and
the band says where it comes from. All means are over seeds, ± their standard deviation; none was left out.

Scales: `laptop` reads the 5,000 digits that come with the package; `paper` reads all of MNIST and trains as long as the
authors did.
""",
    claims=(
        Claim(
            key="multisensory-training",
            statement="Multisensory integration is learnt within 500 iterations.",
            where="the authors' notebook: iteration 346, loss 0.0018",
            how="""
            150 leaky ReLU neurons, a third of which hears and a third sees; RMSprop with a learning rate of 1 for π; 24
            conditions and 6 catch trials per iteration; stop when the loss is at most 0.0020, not before iteration 100
            and not after iteration 500.
            """,
            bands=(
                Band("stopped", "networks that meet the stop rule", low=1.0, unit="%", paper="1 of 1"),
                Band(
                    "iterations",
                    "iterations until then",
                    low=200.0,
                    high=500.0,
                    paper="346",
                    source="runs of the authors' programs by us stopped at 305, 325 and 412",
                ),
            ),
            measure=multisensory.measure_training,
            draw=multisensory.draw_training,
            shows="Training loss against iterations: a plateau, then a fast fall to the stop.",
            minutes={"smoke": 0.3, "laptop": 0.6, "paper": 0.6},
        ),
        Claim(
            key="multisensory-accuracy",
            statement="The ensemble integrates two senses: with both it is at least as good as with the better one.",
            where="reported of the text; the authors' programs",
            how="""
            Test trials (500 ms of fixation, end with the decision) at the time step of training, 20 ms; the choice is
            the larger output at the last step. Mean field, and both samplers.
            """,
            bands=(
                Band("accuracy", "right answers, mean of all conditions", low=0.97, unit="%", source=_RERUN),
                Band("gain", "both senses, more than the better one", low=-0.005, unit="%", source=_RERUN),
                Band("far_errors", "errors beside 12 and 13 events/s", high=0.005, unit="%", source=_RERUN),
                Band("annealed", "right answers, weights drawn in each step", low=0.96, unit="%", source=_RERUN),
                Band(
                    "quenched",
                    "right answers, weights drawn once",
                    low=0.9,
                    unit="%",
                    source=f"{_RERUN}: 94.2 and 95.7 %",
                ),
            ),
            measure=multisensory.measure_accuracy,
            draw=multisensory.draw_accuracy,
            shows="Right answers with vision, sound, and both, for three ways to run the ensemble.",
            minutes={"smoke": 0.2, "laptop": 0.3, "paper": 0.5},
        ),
        Claim(
            key="multisensory-psychometric",
            statement="Choices depend on the rate along steep psychometric curves, steepest with both senses.",
            where="figure in the authors' notebook",
            how="""
            As the authors test: a time step of 0.5 ms instead of the 20 ms of training. Shares of "high" choices at
            each rate, fitted by cumulative normal distributions; the optimal spread of both senses follows from those
            of each. Where a curve is nearly a step its spread is set by the grid of rates, and no less than 0.1.
            """,
            bands=(
                Band("at_12", '"high" at 12 events/s', high=0.12, unit="%", paper="0 to 3 % (read off the figure)"),
                Band("at_13_alone", '"high" at 13 events/s, one sense', low=0.83, unit="%", paper="93 to 94 %"),
                Band("at_13_both", '"high" at 13 events/s, both', low=0.88, unit="%", paper="98 %"),
                Band("rising", "networks whose curves rise", low=1.0, unit="%", paper="all"),
                Band("ratio", "spread with both, of that of the better sense", high=1.0),
                Band(
                    "to_best",
                    "spread with both, of the optimal one",
                    high=1.2,
                    source="our measure of a gain that is near to optimal or better",
                ),
            ),
            measure=multisensory.measure_psychometric,
            draw=multisensory.draw_psychometric,
            shows='Share of "high" choices against rate for vision, sound and both; and the spreads of the fits.',
            minutes={"smoke": 0.1, "laptop": 1.0, "paper": 3.0},
        ),
        Claim(
            key="multisensory-connections",
            statement="About 1 % of the recurrent connections are very important.",
            where="reported of the text",
            how="Very important: π ≤ 0.1, Ξ < 0.1 and |m| > 0.08, the rule of the authors' programs.",
            bands=(
                Band(
                    "important",
                    "very important recurrent connections",
                    low=0.005,
                    high=0.04,
                    unit="%",
                    paper="about 1 %",
                    source="runs of the authors' programs by us gave 0.8, 1.1 and 2.0 %",
                ),
                Band("certain", "of these certain, π = 0 and Ξ = 0", low=0.0005, high=0.02, unit="%", source=_RERUN),
            ),
            measure=multisensory.measure_connections,
            draw=multisensory.draw_connections,
            shows="How m, π and Ξ of the recurrent connections are distributed after training.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.1},
            size=(9.0, 3.0),
        ),
        Claim(
            key="multisensory-removal",
            statement="Without its very important connections the network fails; without as many others it does not.",
            where="reported of the text: to chance, and negligible",
            how="""
            Growing shares of them are removed, and as many drawn from all, and as many of those with the largest π.
            The control of the authors' programs takes the first connections in memory, which are all inputs of one or
            two neurons; ours is drawn at random.
            """,
            bands=(
                Band(
                    "important",
                    "loss of right answers without the very important",
                    low=0.2,
                    unit="%",
                    paper="to chance",
                    source="chance is a loss of 50 %; runs of the authors' programs by us lost 29 to 33 %",
                ),
                Band("random", "without as many at random", high=0.03, unit="%", paper="negligible"),
                Band("unimportant", "without as many unimportant", high=0.03, unit="%", paper="negligible"),
            ),
            measure=multisensory.measure_removal,
            draw=multisensory.draw_removal,
            shows="Right answers fall as very important connections go, and stay as others go.",
            minutes={"smoke": 0.1, "laptop": 0.4, "paper": 4.0},
            size=(6.0, 3.4),
        ),
        Claim(
            key="multisensory-selectivity",
            statement="Units become selective: for one stimulus, for some, or for none.",
            where="reported of the text; shares not known",
            how="""
            Mean rates in stimulus and decision for four stimuli: high or low rate, seen or heard. Selectivity index
            below 0.1: non-selective; above 0.9: uni-selective; else mixed. The thresholds are ours.
            """,
            bands=(
                Band("non_selective", "non-selective units", low=0.1, high=0.5, unit="%", source=_RERUN),
                Band("mixed", "mixed", low=0.5, high=0.9, unit="%", source=_RERUN),
                Band("uni_selective", "uni-selective", low=0.001, high=0.1, unit="%", source=_RERUN),
            ),
            measure=multisensory.measure_selectivity,
            draw=multisensory.draw_selectivity,
            shows="Responses of a non-selective, a mixed and a uni-selective unit; and how the index is distributed.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.2},
            size=(11.0, 2.8),
        ),
        Claim(
            key="multisensory-components",
            statement="Neural activity is low-dimensional: three components hold more than 85 % of its variance.",
            where="reported of the text",
            how="24 conditions, time step 20 ms, mean of trials; single trials, which have the noise's dimensions too.",
            bands=(Band("average", "variance in three components", low=0.85, unit="%", paper="> 85 %"),),
            measure=multisensory.measure_components,
            draw=multisensory.draw_components,
            shows="Variance against components; trajectories of low and high rates part from a common start.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.2},
        ),
        Claim(
            key="multisensory-entropy",
            statement="Connections become more certain in their value, and less so in whether they are there.",
            where="the authors' programs draw it; their figure is not known to us",
            how="""
            Mean entropies of the recurrent connections between different neurons every 10 iterations; Ξ at least 1e-4.
            """,
            bands=(
                Band("slab", "change of the slab's entropy S_Ξ", high=0.0, unit="nat"),
                Band("spike", "change of the presence's entropy S_π", low=0.0, unit="nat"),
            ),
            measure=multisensory.measure_entropy,
            draw=multisensory.draw_entropy,
            shows="Three entropies against iterations.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.1},
            size=(9.0, 2.8),
        ),
        Claim(
            key="rows-accuracy",
            statement="Reading digits row by row, the ensemble is as good as plain back-propagation through time.",
            where="reported of the text; accuracies not known",
            how="""
            100 leaky ReLU neurons, 28 steps, constants of the authors' programs; plain weights start from the same
            means and get the same updates. Annealed: weights drawn in each step, which the mean field describes;
            quenched: drawn once.
            """,
            bands=(
                Band("mean_field", "ensemble, mean field", low=0.85, unit="%", source=_RERUN),
                Band("against_plain", "more than plain weights", low=-0.015, unit="%", paper="comparable or better"),
                Band("annealed_gap", "annealed, distance from the mean field", high=0.01, unit="%", source=_RERUN),
                Band("quenched", "quenched", low=0.72, high=0.86, unit="%", source=_RERUN, largest="laptop"),
                Band(
                    "quenched_gap",
                    "mean field, more than quenched",
                    low=0.03,
                    unit="%",
                    source=_RERUN,
                    largest="laptop",
                ),
            ),
            measure=digits.measure_rows,
            draw=digits.draw_accuracy,
            shows="Test accuracy against updates of ensembles and plain weights; and at the end by way to run it.",
            minutes={"smoke": 0.3, "laptop": 4.0, "paper": 90.0},
        ),
        Claim(
            key="rows-order",
            statement="The continuous symmetry (Ξ) breaks before the discrete one (π).",
            where="reported of the text; protocol not known",
            how="""
            When have the mean entropies S_Ξ and S_π of the connections covered half of their way? The measure is ours.
            """,
            bands=(
                Band("lead", "Ξ before π, all connections", low=0.0, unit="updates", paper="Ξ first"),
                Band("input_lead", "input", low=0.0, unit="updates", paper="Ξ first"),
                Band("recurrent_lead", "recurrent", low=0.0, unit="updates", paper="Ξ first"),
                Band("output_lead", "output", low=0.0, unit="updates", paper="Ξ first"),
                Band("slab", "change of S_Ξ, recurrent", high=-0.5, unit="nat", source=_RERUN),
                Band("spike", "change of S_π, recurrent", low=0.0, high=0.5, unit="nat", source=_RERUN),
            ),
            measure=digits.measure_order,
            draw=digits.draw_order,
            shows="How far the two entropies have come, by layer.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.1},
            size=(9.0, 3.0),
        ),
        Claim(
            key="rows-connections",
            statement="A few connections become certain, most keep fluctuating.",
            where="the classes of Li & Huang (2020); shares not known",
            how="Shares of recurrent connections after training; distributions in each layer at four moments.",
            bands=(
                Band("certain", "certain: π = 0 and Ξ = 0", low=0.005, high=0.15, unit="%", source=_RERUN),
                Band("zero_xi", "Ξ = 0", low=0.1, unit="%", source=_RERUN),
                Band("mean_pi", "mean π", high=0.2, source=_RERUN),
                Band("mean_xi", "mean Ξ, from 0.05", high=0.02, source=_RERUN),
            ),
            measure=digits.measure_distributions,
            draw=digits.draw_distributions,
            shows="Distributions of m, π and Ξ in the three layers at four moments of training.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.1},
            size=(9.0, 7.5),
        ),
        Claim(
            key="rows-removal",
            statement="Without the very important connections the network is at chance; without others it is not.",
            where="reported of the text",
            how="""
            The paper's rule for digits is not known; its predecessor's is: certain connections, π = 0 and Ξ = 0. After
            this training none has π = 1, so those with the largest π stand for the unimportant ones.
            """,
            bands=(
                Band("certain_left", "accuracy above chance, certain ones removed", high=0.2, unit="%", paper="chance"),
                Band("random", "loss without as many at random", high=0.05, unit="%", paper="negligible"),
                Band("absent", "loss without as many with the largest π", high=0.05, unit="%", paper="negligible"),
            ),
            measure=digits.measure_removal,
            draw=digits.draw_removal,
            shows="Accuracy as certain, random and most absent connections go.",
            minutes={"smoke": 0.1, "laptop": 0.5, "paper": 3.0},
            size=(6.0, 3.4),
        ),
        Claim(
            key="digits-components",
            statement="Neural activity is low-dimensional: three components hold more than 85 % of its variance.",
            where="reported of the text",
            how="""
            The protocol of the authors' notebook, where the network reads pixels: ten test images each of the digits 1,
            5 and 9; here mean over draws of the noise. By the pixels of 7 × 7 images, and by rows.
            """,
            bands=(
                Band("pixels", "variance in three components, by pixels", low=0.85, unit="%", paper="≥ 85 %"),
                Band("rows", "by rows", low=0.85, unit="%", paper="> 85 % (by rows or pixels: not said)"),
            ),
            measure=digits.measure_components,
            draw=digits.draw_components,
            shows="Variance against components; trajectories of the digits 1, 5 and 9.",
            minutes={"smoke": 0.2, "laptop": 0.3, "paper": 0.5},
        ),
        Claim(
            key="rows-selectivity",
            statement="Units become selective for digits: one, some, or none.",
            where="reported of the text; shares not known",
            how="Mean rates for ten digits over the whole sequence; thresholds 0.1 and 0.9 on the index, ours.",
            bands=(
                Band("non_selective", "non-selective units", low=0.001, unit="%"),
                Band("mixed", "mixed", low=0.001, unit="%"),
                Band("uni_selective", "uni-selective", low=0.001, unit="%"),
            ),
            measure=digits.measure_selectivity,
            draw=digits.draw_selectivity,
            shows="How the selectivity index is distributed over units.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.1},
            size=(6.0, 3.0),
        ),
        Claim(
            key="rows-synaptic",
            statement="Weights move along few directions: the first drifts steadily, the others fluctuate around zero.",
            where="reported of the text; protocol not known",
            how="""
            Principal components of the recurrent m over training, one point per 50 updates; mean change along each over
            its standard deviation. The measure is ours. The figure shows π and Ξ, too.
            """,
            bands=(
                Band("first", "drift over spread, first component", low=0.5),
                Band("others", "the largest of the next four", high=0.5),
                Band("three", "variance in three components", low=0.85, unit="%"),
            ),
            measure=digits.measure_synaptic,
            draw=digits.draw_synaptic,
            shows="Changes of m along three components against updates; drift over spread of five, for m, π and Ξ.",
            minutes={"smoke": 0.1, "laptop": 0.1, "paper": 0.1},
        ),
        Claim(
            key="pooled-pixels",
            statement="Pixel by pixel, too, the ensemble keeps up with plain back-propagation through time.",
            where="reported of the text, for 784 pixels; accuracies not known",
            how="""
            A small version: images of 7 × 7 pixels (means of 4 × 4), 49 steps, 2,000 updates, input weights plain. This
            early learning is slow: input weights begin at 0.1 and the leak is 0.1.
            """,
            bands=(
                Band("mean_field", "ensemble, mean field", low=0.3, unit="%", source=_RERUN),
                Band("plain", "plain weights", low=0.3, unit="%", source=_RERUN),
                Band("against_plain", "more than plain weights", low=-0.06, unit="%", paper="comparable or better"),
            ),
            measure=digits.measure_pooled,
            draw=digits.draw_accuracy,
            shows="Test accuracy against updates of ensembles and plain weights.",
            minutes={"smoke": 0.2, "laptop": 6.0, "paper": 6.0},
        ),
        Claim(
            key="pixels",
            statement="Pixel by pixel, 784 steps, the ensemble is as good as plain back-propagation through time.",
            where="reported of the text; accuracies not known",
            how="All of MNIST, 40,000 updates, constants of the authors' programs; hours per seed.",
            bands=(
                Band("mean_field", "ensemble, mean field", low=0.9, unit="%", source="ours: no number is known"),
                Band("against_plain", "more than plain weights", low=-0.005, unit="%", paper="comparable or better"),
            ),
            measure=digits.measure_full_pixels,
            draw=digits.draw_accuracy,
            shows="Test accuracy against updates of ensembles and plain weights.",
            minutes={"paper": 900.0},
        ),
        Claim(
            key="stochastic-plasticity",
            statement="Synapses that fluctuate in training make networks that bear it.",
            where="the paper studies the role of stochastic plasticity; its protocol is not known to us",
            how="""
            The protocol is ours. Rows; six trainings from the same weights on the same trials: the mean field's noise,
            half and twice as much, one draw for all time steps, one draw of all weights, none (so that nothing moves Ξ
            but its decay). Each network is tested without noise, with the mean field's, and with weights drawn once;
            and, without noise, when a quarter of its recurrent connections is removed at random, and with input noise
            of s.d. 0.3. The bands are what we expected before we measured.
            """,
            bands=(
                Band(
                    "withstands",
                    "with noise: so trained, more than without",
                    low=0.02,
                    unit="%",
                    source="ours",
                ),
                Band(
                    "costs",
                    "without noise: trained with it, more than without",
                    low=-0.02,
                    unit="%",
                    source="ours",
                ),
                Band("fixed", "weights drawn once: so trained, more than annealed", low=0.02, unit="%", source="ours"),
                Band(
                    "removal",
                    "a quarter removed: trained with noise, more",
                    low=0.0,
                    unit="%",
                    source="ours",
                ),
            ),
            measure=plasticity.measure_plasticity,
            draw=plasticity.draw_plasticity,
            shows="Test accuracy of six trainings in five tests.",
            minutes={"smoke": 0.4, "laptop": 6.0, "paper": 400.0},
            size=(8.0, 3.4),
        ),
        Claim(
            key="kernel",
            statement="An infinitely wide ensemble has a tangent kernel in closed form.",
            where="the authors' programs, first task",
            how="""
            Four values of their programs; and 500 neurons, 20 networks, nine angles φ between two inputs of two steps
            (paper: 2,000 neurons, 100 networks, 41 angles).
            """,
            bands=(
                Band("published", "largest distance from their values", high=1e-5, paper="0", smallest="smoke"),
                Band("within", "entries within 4 standard errors + 5 %", low=1.0, unit="%", paper="within error bars"),
                Band("correlation", "correlation over angles", low=0.98),
            ),
            measure=theory.measure_kernel,
            draw=theory.draw_kernel,
            shows="The kernel between two inputs against their angle: the limit's curve, and finite networks on it.",
            minutes={"smoke": 0.3, "laptop": 0.6, "paper": 60.0},
            size=(6.0, 3.4),
        ),
        Claim(
            key="kernel-training",
            statement="Early in learning, wide networks follow the linear theory.",
            where="the authors' programs, second task; the text says: the early stage only",
            how="""
            Digits 0 and 1 by rows, 512 to train on, α = 1, gradient descent with rate 1e-3 on m̃, π and Ξ̃. Widths 64,
            256 and 1,024; and 256 with the mean of several passes as output, as the theory has no noise. The theory
            starts from each network's own first outputs. An error of the authors' programs, by which m moves at twice
            the rate, is left out.
            """,
            bands=(
                Band("deviation", "loss after 8 updates, relative to the theory, N = 256", high=0.25, source=_RERUN),
                Band("averaged", "by how much averaging over passes changes that", high=0.0, source=_RERUN),
                Band("lazier", "change of weights at N = 64, of that at the largest", low=1.5, source="ours"),
            ),
            measure=theory.measure_training,
            draw=theory.draw_training,
            shows="Training loss against updates of networks and of the theory, for growing width.",
            minutes={"smoke": 0.3, "laptop": 4.0, "paper": 60.0},
            size=(11.0, 3.0),
        ),
        Claim(
            key="features",
            statement="At finite width features are learnt: the weights change by as much as they are.",
            where="the authors' programs, toy model",
            how="""
            One tanh neuron with up to 10,000 equal inputs, trained online. With a = N the weights must move; with
            a = N² they hardly can.
            """,
            bands=(
                Band("loss", "final loss, N = 10,000", low=0.072, high=0.076, paper="0.073"),
                Band("change", "mean change of m over its mean size", low=1.0, paper="1.37"),
                Band("deviation", "relative change of the current's s.d.", high=0.01, paper="constant"),
                Band(
                    "falling",
                    "fluctuation part of ∂h/∂m at N = 10,000, of that at N = 100",
                    high=0.1,
                    paper="falls as 1/N",
                ),
                Band("lazy", "final loss with a = N²", low=4.7, paper="4.78"),
            ),
            measure=theory.measure_features,
            draw=theory.draw_features,
            shows="Loss against epochs by number of inputs; the fluctuation's part of the gradient falls as 1/N.",
            minutes={"smoke": 0.2, "laptop": 0.5, "paper": 0.5},
        ),
    ),
)
