"""The one exception of this folder."""


class DataError(ValueError):
    """A data file is missing, damaged or not what it should be.

    The message names the file, what is wrong with it, and what to do.
    """
