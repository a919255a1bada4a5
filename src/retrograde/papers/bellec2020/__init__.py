"""Bellec, Scherr et al. (2020): eligibility propagation."""

from retrograde.papers._claim import Band, Claim, Paper
from retrograde.papers.bellec2020 import _evidence as evidence
from retrograde.papers.bellec2020 import _factorisation as factorisation
from retrograde.papers.bellec2020 import _movement as movement
from retrograde.papers.bellec2020 import _pattern as pattern
from retrograde.papers.bellec2020 import _reward as reward
from retrograde.papers.bellec2020 import _trial as trial

_RERUN = "an independent re-implementation of the authors' settings, three seeds; the article prints no number we know"

PAPER = Paper(
    key="bellec2020",
    title="A solution to the learning dilemma for recurrent networks of spiking neurons",
    reference="Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein & Maass (2020), Nat. Commun. 11:3625",
    summary="Eligibility traces and broadcast learning signals train spiking networks nearly as well as BPTT.",
    notes="""
Constants are those of the authors' public programs; of the article we know what others report of it. Where a number is
not known to us, the band says where it comes from. TIMIT, on which the article's main figure rests, is licensed and not
reproduced here. All means are over seeds, ± their standard deviation; none was left out.

Scales: `laptop` accumulates evidence from three cues over 900 ms, `paper` from seven over 2,250 ms as the authors do.
""",
    claims=(
        Claim(
            key="factorisation",
            statement="The gradient is the sum over time of learning signals times eligibility traces, exactly.",
            where="eq. 1; the authors' verification script",
            how="""
            Four LIF and four ALIF neurons with a refractory period, 60 steps, float64. The learning signal of each
            spike is its total derivative, found by adding to the spike that others read; signals times traces are
            compared with BPTT, and e-prop's traces with its adjoint form.
            """,
            bands=(
                Band(
                    "traces",
                    "signals × traces, relative deviation from BPTT",
                    high=1e-12,
                    paper="about 1e-14",
                    smallest="smoke",
                ),
                Band("adjoint", "the same by the adjoint form", high=1e-12, paper="about 1e-14", smallest="smoke"),
                Band(
                    "online_is_offline",
                    "e-prop by traces, deviation from its adjoint form",
                    high=1e-12,
                    source="an identity",
                    smallest="smoke",
                ),
                Band("spikes", "spikes of the network", low=5.0, source="a silent network would show nothing"),
            ),
            measure=factorisation.measure,
            draw=factorisation.draw,
            shows="Relative deviations of the three comparisons, each below the line at 1e-12.",
            minutes={"smoke": 0.2, "laptop": 0.2, "paper": 0.2},
            size=(6.0, 3.2),
        ),
        Claim(
            key="pattern-generation",
            statement="e-prop teaches a network to draw a curve nearly as well as BPTT; with random feedback less so.",
            where="supplement; the authors' tutorial and its learning curve",
            how="""
            100 LIF neurons, frozen Poisson input, a sum of four sines over 1,000 ms; gradient descent with a learning
            rate of 1e-4 on ½ Σ error², firing rates drawn to 10 Hz. Input, target and weights anew for each seed.
            """,
            bands=(
                Band("start", "loss at the start", low=100.0, high=135.0, paper="about 132", source=_RERUN),
                Band("start_many", "the same, over 40 curves", low=100.0, high=135.0, paper="about 132", source=_RERUN),
                Band("symmetric", "loss at iteration 990, symmetric", high=6.0, paper="about 2.6", source=_RERUN),
                Band("bptt", "the same, BPTT", high=5.0, source=_RERUN),
                Band("random", "the same, random feedback", high=14.0, source=_RERUN),
                Band("random_above", "networks that random feedback teaches worse", low=1.0, unit="%", source=_RERUN),
                Band("ratio", "symmetric, of BPTT", low=0.5, high=2.5, source=_RERUN),
                Band("rate", "mean firing rate", low=8.0, high=25.0, unit="Hz", source=_RERUN),
            ),
            measure=pattern.measure,
            draw=pattern.draw,
            shows="Loss against iterations for BPTT and both kinds of e-prop; and the curves drawn in the end.",
            minutes={"smoke": 0.3, "laptop": 4.0, "paper": 4.0},
        ),
        Claim(
            key="cosines",
            statement="Before training, e-prop's gradient points along the exact one.",
            where="the abstract's claim, measured on the evidence task",
            how="32 trials of the short evidence task, input and recurrent weights, symmetric feedback.",
            bands=(
                Band("input", "cosine, input weights", low=0.0, source="better than a right angle"),
                Band("recurrent", "cosine, recurrent weights", low=0.0, source="better than a right angle"),
            ),
            measure=evidence.measure_cosines,
            draw=evidence.draw_cosines,
            shows="Cosine between e-prop's and the exact gradient for input and recurrent weights, for each network.",
            minutes={"smoke": 0.2, "laptop": 0.3, "paper": 0.3},
            size=(5.0, 3.2),
        ),
        Claim(
            key="evidence-short",
            statement="With adaptive neurons e-prop learns to accumulate evidence over a delay; without, it does not.",
            where="Fig. 3, in small",
            how="""
            3 cues, a delay of 300 ms, 900 ms in all; adaptation of 600 ms and of strength 1.7 in the authors' older
            form (0.058 in the article's); 250 iterations of 32 trials. Errors are the mean of iterations 200 to 240,
            each on 256 trials that are not trained on; chance is 50 %.
            """,
            bands=(
                Band("symmetric", "errors, symmetric", high=0.2, unit="%", source=_RERUN),
                Band("random", "errors, random feedback", high=0.2, unit="%", source=_RERUN),
                Band("bptt", "errors, BPTT", high=0.2, unit="%", source=_RERUN),
                Band("lif", "errors without adaptation, symmetric", low=0.35, unit="%", source=_RERUN),
                Band("contrast", "what adaptation is worth", low=0.15, unit="%", source=_RERUN),
            ),
            measure=evidence.measure_short,
            draw=evidence.draw_short,
            shows="Errors against iterations: three rules fall far below 50 %, neurons without adaptation stay there.",
            minutes={"smoke": 0.3, "laptop": 12.0, "paper": 12.0},
            size=(6.0, 3.2),
        ),
        Claim(
            key="evidence-trial",
            statement="Eligibility traces carry the cues over the delay; learning signals come with the recall only.",
            where="Fig. 3; the picture that the authors' program draws",
            how="""
            A trial of the networks of the claim before, symmetric feedback, the first of the test that is answered
            right. Of the synapses from cue neurons onto adaptive neurons the five whose trace has the largest slow part
            at recall, the influence on the adaptation.
            """,
            bands=(
                Band(
                    "left",
                    "slow part at recall, of that after the cues",
                    low=0.4,
                    high=0.8,
                    paper="about 15 of 25",
                    source="the decay over the delay is 0.59 there and 0.61 here",
                ),
                Band("early", "largest learning signal before the recall", high=0.0, paper="0", smallest="smoke"),
            ),
            measure=evidence.measure_trial,
            draw=trial.draw,
            shows="Spikes of inputs and network, the answer, learning signals, traces and their slow part in a trial.",
            minutes={"smoke": 0.2, "laptop": 0.2, "paper": 0.2},
            size=(7.0, 7.0),
        ),
        Claim(
            key="evidence",
            statement="Seven cues and a delay of a second are learnt within a few hundred iterations.",
            where="Fig. 3; the authors' programs",
            how="""
            50 LIF and 50 ALIF neurons, adaptation of 2 s, Adam at 0.005, batches of 64 fresh trials. Solved is when 10
            iterations in a row have fewer than 7 % wrong steps of recall, of at most 700; the control without
            adaptation runs for 200. The authors count wrong decisions, of which there are fewer than wrong steps.
            """,
            bands=(
                Band("symmetric_solved", "networks solved, symmetric", low=0.5, unit="%", source=_RERUN),
                Band("random_solved", "networks solved, random feedback", low=0.5, unit="%", source=_RERUN),
                Band("bptt_solved", "networks solved, BPTT", low=0.5, unit="%", source=_RERUN),
                Band(
                    "symmetric_iterations", "iterations, symmetric; 700 if not", high=500.0, paper="around 200 to 500"
                ),
                Band(
                    "random_iterations",
                    "iterations, random feedback; 700 if not",
                    high=500.0,
                    paper="around 200 to 500",
                ),
                Band("bptt_iterations", "iterations, BPTT; 700 if not", high=500.0, paper="around 200 to 500"),
                Band("at_100", "errors in iterations 1 to 100, symmetric", high=0.45, unit="%", source=_RERUN),
                Band("control", "errors without adaptation", low=0.45, unit="%", paper="it fails"),
            ),
            measure=evidence.measure_whole,
            draw=evidence.draw_whole,
            shows="Errors of every network against iterations, and the line at 7 %.",
            minutes={"paper": 40.0},
            size=(6.0, 3.2),
        ),
        Claim(
            key="one-shot-movement",
            statement="A network that has learnt to teach makes another learn a movement from a single trial.",
            where="e-prop 2 of the preprint, arXiv:1901.09049; the authors' program",
            how="""
            An arm of two joints is to draw a path. The network moves it, the teacher sees the path and the network's
            spikes and gives each neuron a learning signal; one update by e-prop, and the same trial again. Weights of
            both are trained by BPTT through all of it, for the error of the second trial, on movements drawn anew;
            errors here are on others. At `laptop` 100 and 75 neurons in place of 400 and 300, 200 ms in place of 500,
            25 neurons of code in place of 100, 3,000 updates of 16 movements in place of 20,000 of 100; larger first
            readout weights (2 for 0.05), inner (0.01 for 0.0001) and outer learning rates (0.003 for 0.001). Differs
            from the authors': the teacher's firing rate counts in the first trial only.
            """,
            bands=(
                Band("before", "squared error, first trial", high=0.3, source="ours"),
                Band("after", "squared error, second trial", high=0.08, source="ours"),
                Band("ratio", "second trial, of the first", high=0.5, source="ours"),
                Band("still", "second trial, of an arm that does not move", high=0.5, source="ours"),
                Band("specific", "second trial, of what another movement would cost", high=0.5, source="ours"),
                Band("rate", "mean firing rate", low=5.0, high=60.0, unit="Hz", source="ours; 20 Hz are wanted"),
            ),
            measure=movement.measure,
            draw=movement.draw,
            shows="Errors along the outer loop; four movements before and after the network has learnt from one trial.",
            minutes={"smoke": 0.5, "laptop": 15.0, "paper": 3000.0},
        ),
        Claim(
            key="delayed-reward",
            statement="Reward that comes late teaches what to remember until then.",
            where="Fig. 4 of the article, in small; the task is ours",
            how="""
            A cue of 40 ms on one side, 300 ms of nothing, a signal; the side chosen then earns 1 or -1. 50 adaptive
            neurons, actor and critic their readouts, learn from 25,600 episodes, 64 at a time, an update after each
            (Adam at 0.005). Solved is a mean reward of at least 0.9, 95 % right, in the last tenth of the episodes.
            The settings were chosen with symmetric feedback on two of the five seeds, and are the same for all rules.
            """,
            bands=(
                Band("symmetric_solved", "networks solved, symmetric", low=1.0, unit="%", source="ours"),
                Band("random_solved", "networks solved, random feedback", low=1.0, unit="%", source="ours"),
                Band("bptt_solved", "networks solved, BPTT", low=1.0, unit="%", source="ours"),
                Band("symmetric", "reward in the end, symmetric", low=0.9, source="ours"),
                Band("random", "reward in the end, random feedback", low=0.9, source="ours"),
                Band("bptt", "reward in the end, BPTT", low=0.9, source="ours"),
                Band("lif", "reward in the end without adaptation", high=0.2, source="chance is 0"),
            ),
            measure=reward.measure_delayed,
            draw=reward.draw_delayed,
            shows="Reward of every network against episodes, and the line of what counts as solved.",
            minutes={"laptop": 12.0, "paper": 12.0},
            size=(6.0, 3.2),
        ),
        Claim(
            key="pong",
            statement="An agent of spiking neurons learns Pong from its picture and the score.",
            where="Fig. 5; the authors' README",
            how="""
            The Arcade Learning Environment's Pong, four frames to a step, 16 games at once, one hour. 120 LIF and 80
            ALIF neurons with the authors' constants, five steps of 1 ms for one of the game, symmetric e-prop after
            every 20 steps, Adam at 0.001. Differs from the authors': half the neurons, and they see the picture of the
            last two frames itself (which squares of 2 × 2 pixels hold something), no convolutions; advantages fade
            with λ = 0.95; no penalties. Our hour was on one core, which other trainings shared; the authors played
            1,000 million frames in three days on 12 cores and a GPU.
            """,
            bands=(
                Band("last", "score in the last tenth of the hour", low=10.0, paper="about 10, after 1e9 frames"),
                Band("first", "score in the first tenth", high=-19.0, source="the worst is -21"),
                Band("gain", "points gained", low=1.0, source="ours"),
                Band("frames", "frames in a second", low=1000.0, source="ours"),
            ),
            measure=reward.measure_pong,
            draw=reward.draw_pong,
            shows="Score of an episode against minutes of learning; -21 is to lose every point.",
            minutes={"paper": 60.0},
            size=(6.0, 2.8),
        ),
    ),
)
