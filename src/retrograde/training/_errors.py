"""What can end a run early, each with a message that says what to do."""


class RunError(RuntimeError):
    """A run folder cannot be used: in use, not a run, read-only, or the disk is full."""


class CheckpointError(RunError):
    """No checkpoint can be read, or it belongs to another network, optimiser or seed."""


class DivergedError(RunError):
    """The loss, a gradient or a parameter became NaN or infinite.

    Attributes:
        step: The update that failed, counted from 1. It was not applied.
        groups: Labels of the parameters whose gradient or new value is not finite; empty if only the loss is.
        result: The `Result` up to the last good step.
    """

    def __init__(self, message: str, *, step: int, groups: tuple[str, ...], result=None):
        RunError.__init__(self, message)
        self.step = step
        self.groups = groups
        self.result = result
