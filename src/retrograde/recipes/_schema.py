"""What a recipe may say, section by section."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from retrograde.recipes._components import CONFIG, Neuron, Rule, Synapse, Task

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A section whose keys are all known."""

    model_config = CONFIG


class NeuronSection(Neuron):
    """`[neuron]`: the recurrent population."""

    size: Count = Field(description="Number of neurons.")


class Synapses(Section):
    """`[synapses.…]`: the weights of each projection."""

    input: Synapse = Field(description="From the task's input to the neurons.")
    recurrent: Synapse = Field(description="From the neurons to themselves, one step later.")
    output: Synapse = Field(description="From the neurons to the readout.")
    bias: Synapse | None = Field(default=None, description="A constant current into the neurons; none if left out.")
    output_bias: Synapse | None = Field(default=None, description="The same into the readout.")


class Group(Section):
    """`[optimiser.groups."…"]`: settings of the parameters whose labels match a pattern."""

    learning_rate: NotNegative | None = Field(default=None, description="Their learning rate [1].")
    decay: NotNegative | None = Field(default=None, description="Their decoupled decay [1].")
    halve_every: Count | None = Field(default=None, description="Updates after which their learning rate halves.")
    halve_first: Count | None = Field(default=None, description="Update of the first halving.")


class Optimiser(Section):
    """`[optimiser]`: how gradients become new weights."""

    name: Literal["adam", "rmsprop", "sgd"] = Field(default="adam", description="`adam`, `rmsprop` or `sgd`.")
    learning_rate: Positive = Field(default=1e-3, description="Learning rate of all parameters [1].")
    decay: NotNegative = Field(default=1e-4, description="Decoupled decay of all matrices except π [1].")
    halve_every: int = Field(default=0, ge=0, description="Updates after which the learning rate halves; 0: never.")
    halve_first: int = Field(default=0, ge=0, description="Update of the first halving; 0: `halve_every`.")
    clip_spectral: NotNegative = Field(
        default=10.0, description="Largest singular value that a gradient matrix may have; 0: no clip."
    )
    groups: dict[str, Group] = Field(
        default={}, description='Settings of single groups by a pattern over their labels, such as `"*.pi"`.'
    )


class EarlyStop(Section):
    """`[training.early_stop]`: when to stop before the last update."""

    metric: Literal["loss", "accuracy", "gradient_norm", "validation_loss", "validation_accuracy"] = Field(
        default="validation_loss", description="What is watched."
    )
    threshold: float | None = Field(default=None, description="Stop as soon as the metric is as good as this.")
    patience: Count | None = Field(default=None, description="Stop after so many measurements without a new best.")
    after: int = Field(default=0, ge=0, description="Never stop before this update.")

    @model_validator(mode="after")
    def _can_be_reached(self) -> "EarlyStop":
        if self.threshold is None and self.patience is None:
            raise ValueError("give a `threshold`, a `patience` or both, else nothing ever stops")
        return self


class FiringRate(Section):
    """`[training.firing_rate]`: a penalty on neurons that fire more, or less, often than they should."""

    target: NotNegative = Field(default=0.01, description="Wanted rate of each neuron [spikes per step].")
    strength: NotNegative = Field(default=1.0, description="Factor of the summed squared deviations [1].")


class Training(Section):
    """`[training]`: how long, on what, and what is written down when."""

    steps: Count = Field(description="Number of updates.")
    batch: Count = Field(default=128, description="Trials per update.")
    seeds: Count = Field(default=1, description="Number of networks trained side by side, for error bars.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seeds weights, data and noise.")
    update: Literal["trial", "step"] | Count = Field(
        default="trial",
        description="When weights change: at the end of each batch of trials, or every so many time steps.",
    )
    log_every: Count = Field(default=10, description="Updates between two rows of the metrics.")
    validate_every: int = Field(default=100, ge=0, description="Updates between two validations; 0: never.")
    validation_split: str = Field(default="test", description="Part of the task's trials that validates.")
    checkpoint_every: Count = Field(default=200, description="Updates between two checkpoints.")
    keep: Count = Field(default=3, description="Number of checkpoints kept.")
    early_stop: EarlyStop | None = Field(default=None, description="When to stop before the last update.")
    firing_rate: FiringRate | None = Field(default=None, description="A penalty on firing rates; none if left out.")

    @model_validator(mode="after")
    def _validates(self) -> "Training":
        stop = self.early_stop
        if stop is not None and stop.metric.startswith("validation") and not self.validate_every:
            raise ValueError(f"`early_stop` watches {stop.metric}, so `validate_every` must not be 0")
        return self


class Evaluation(Section):
    """`[evaluation]`: how the trained network is measured."""

    samples: Count = Field(default=20, description="Repeats per sampler: draws of noise or of whole networks.")


class Recipe(Section):
    """One experiment: the only source of its numbers."""

    name: str = Field(default="", description="What the experiment is called; the file's name if left out.")
    summary: str = Field(default="", description="One line for `retrograde list recipes`.")
    task: Task = Field(description="What is to be learnt.")
    neuron: NeuronSection = Field(description="The recurrent population.")
    readout: Neuron = Field(default=Neuron(name="linear"), description="The readout's neurons.")
    synapses: Synapses = Field(description="The weights of each projection.")
    rule: Rule = Field(default=Rule(name="bptt"), description="How credit is assigned.")
    optimiser: Optimiser = Field(default=Optimiser(), description="How gradients become new weights.")
    training: Training = Field(description="How long, on what, and what is written down when.")
    evaluation: Evaluation = Field(default=Evaluation(), description="How the trained network is measured.")
