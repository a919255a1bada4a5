"""Spoken digits, as a filter bank hears them or as spikes."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from retrograde.data import load_spoken_digits
from retrograde.tasks._abstract import AbstractTask, Trials, check_integer, check_split, check_trials_exist

ENCODINGS = ("mel", "spikes")
ANSWERS = ("last", "every")
CLASSES = 10
TEST_TAKES = 5
HOP, WINDOW, LENGTH = 80, 200, 512  # 10 ms and 25 ms at 8 kHz; length of the Fourier transform
LOWEST, HIGHEST = 50.0, 4000.0  # Hz
RANGE = 60.0  # dB


class SpokenDigits(AbstractTask):
    r"""Digits are heard, zero to nine, and are to be named at the end, or at every step.

    A step is 10 ms. Each clip is heard in `bands` bands of equal width in mel between 50 Hz and 4 kHz (triangles, of
    the power in Hann windows of 25 ms), and the level of a band is
    $x = 1 + \log_{10}(\mathrm{power} / \mathrm{loudest}) / 6$, not below 0: 1 is the loudest band and step of the clip,
    0 is 60 dB below, or silence. So no recording is louder than another. Levels are kept in 255 parts.

    | `encoding` | inputs | what comes in one step |
    | --- | --- | --- |
    | `"mel"` | `bands` | the levels, 0 to 1 |
    | `"spikes"` | 2 · `bands` | band 0 up, band 0 down, band 1 up, …: 0 or 1 |

    A band sends a spike up in a step in which its level has come above one or more of the thresholds `rise`, 2 `rise`,
    3 `rise`, …, and a spike down if it has fallen below one. It is a caricature of a cochlea, not a model of one.

    A trial has `frames` steps. Clips end with it: what is short has silence before it, of what is long only the first
    `frames` steps are heard (with 100, all but 17 of the 3,000 clips are whole).

    Attributes:
        encoding: See the table.
        bands: Number of bands.
        frames: Length of a trial [10 ms].
        answer: `"last"`: the digit is to be named at the last step. `"every"`: at every step of the clip; the mask
            leaves out the silence before it.
        held_out: Name of a speaker: then the test part are all clips of this speaker, and the training part those of
            the others. `None`: the official test part, the first 5 of the 50 takes of each speaker and digit, so that
            all speakers are in both parts.
        rise: How far thresholds are apart [6 dB is 0.1].
        levels: The levels of each split in 255 parts, shape `trial time band`.
        lengths: Number of steps of each clip, of each split, shape `trial`.
        digits: The digit, of each split, shape `trial`.

    Raises:
        ValueError: If an argument is none of the above.
        retrograde.data.DataError: If the data are missing or damaged.

    Source:
        The data are those of `retrograde.data.load_spoken_digits`; levels and spikes are ours, after the common
        log-mel filter bank.
    """

    encoding: str = eqx.field(static=True)
    bands: int = eqx.field(static=True)
    frames: int = eqx.field(static=True)
    answer: str = eqx.field(static=True)
    held_out: str | None = eqx.field(static=True)
    rise: float = eqx.field(static=True)
    levels: dict[str, UInt8[Array, "_trial time band"]]
    lengths: dict[str, Int[Array, " _trial"]]
    digits: dict[str, UInt8[Array, " _trial"]]

    def __init__(
        self,
        encoding: str = "mel",
        bands: int = 40,
        frames: int = 100,
        answer: str = "last",
        held_out: str | None = None,
        rise: float = 0.1,
    ):
        # Before the data are read, hence not in `__check_init__`.
        for name, value, choices in (("encoding", encoding, ENCODINGS), ("answer", answer, ANSWERS)):
            if value not in choices:
                names = " or ".join(repr(choice) for choice in choices)
                raise ValueError(f"`SpokenDigits({name}=...)` must be {names}, got {value!r}.")
        check_integer("SpokenDigits", "bands", bands, 1)
        if bands > 64:
            raise ValueError(f"`SpokenDigits(bands=...)` must be at most 64: narrower bands are empty; got {bands}.")
        check_integer("SpokenDigits", "frames", frames, 1)
        if not 0.02 <= rise <= 1:
            raise ValueError(f"`SpokenDigits(rise=...)` must lie between 0.02 and 1, the loudest level, got {rise}.")
        clips = load_spoken_digits()
        if held_out is not None and held_out not in clips.speakers:
            names = ", ".join(clips.speakers)
            raise ValueError(f"`SpokenDigits(held_out=...)` must be one of the speakers, {names}, got {held_out!r}.")
        self.encoding = encoding
        self.bands = bands
        self.frames = frames
        self.answer = answer
        self.held_out = held_out
        self.rise = rise
        if held_out is None:
            is_test = clips.take < TEST_TAKES
        else:
            is_test = clips.speaker == clips.speakers.index(held_out)
        levels, lengths = _features(clips, bands, frames)
        parts = {"train": ~is_test, "test": is_test}
        self.levels = {split: jnp.asarray(levels[part]) for split, part in parts.items()}
        self.lengths = {split: jnp.asarray(lengths[part]) for split, part in parts.items()}
        self.digits = {split: jnp.asarray(clips.digit[part]) for split, part in parts.items()}

    @property
    def inputs(self) -> int:
        return self.bands if self.encoding == "mel" else 2 * self.bands

    @property
    def outputs(self) -> int:
        return CLASSES

    @property
    def steps(self) -> int:
        return self.frames

    @property
    def target_steps(self) -> int:
        return 1 if self.answer == "last" else self.frames

    @property
    def loss(self) -> str:
        return "cross_entropy"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test")

    def size(self, split: str = "train") -> int:
        check_split(self, split)
        return self.digits[split].shape[0]

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        check_trials_exist(self, index, split)
        dtype = jnp.result_type(float)
        levels = self.levels[split][index].transpose(1, 0, 2)
        digit = self.digits[split][index].astype(jnp.int32)
        step = jnp.arange(self.target_steps, dtype=jnp.int32)[:, None]
        return Trials(
            inputs=levels.astype(dtype) / 255 if self.encoding == "mel" else self._spikes(levels).astype(dtype),
            targets=jnp.broadcast_to(digit[None], (self.target_steps, len(index))),
            mask=(step >= self.target_steps - self.lengths[split][index][None]).astype(dtype),
        )

    def _spikes(self, levels: UInt8[Array, "time batch band"]) -> UInt8[Array, "time batch channel"]:
        # Which of 256 levels lies above how many thresholds: a table, so that no rounding differs between machines.
        passed = jnp.asarray(np.floor(np.arange(256) / 255 / self.rise + 1e-9), jnp.uint8)[levels]
        before = jnp.concatenate([jnp.zeros_like(passed[:1]), passed[:-1]])
        spikes = jnp.stack([passed > before, passed < before], axis=-1)
        return spikes.reshape(*passed.shape[:2], 2 * self.bands).astype(jnp.uint8)


def _features(clips, bands: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels of all clips, `clip time band`, at the end of the time, and how many steps each clip has."""
    bank, window = _filter_bank(bands, clips.sampling_rate), np.hanning(WINDOW).astype(np.float32)
    levels = np.zeros((len(clips.digit), frames, bands), np.uint8)
    lengths = np.zeros(len(clips.digit), np.int32)
    for clip, (begin, end) in enumerate(zip(clips.offsets[:-1], clips.offsets[1:], strict=True)):
        sound = clips.samples[begin:end].astype(np.float32)
        count = max(1, 1 + (len(sound) - WINDOW) // HOP)
        sound = np.pad(sound, (0, max(0, WINDOW - len(sound))))
        count = min(count, frames)
        windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[: count * HOP : HOP]
        power = (np.abs(np.fft.rfft(windows * window, LENGTH)) ** 2) @ bank
        loudest = max(float(power.max()), 1e-30)
        level = 1 + 10 / RANGE * np.log10(np.maximum(power / loudest, 1e-30))
        levels[clip, frames - count :] = np.round(255 * np.clip(level, 0, 1))
        lengths[clip] = count
    return levels, lengths


def _filter_bank(bands: int, sampling_rate: int) -> Float[np.ndarray, "frequency band"]:
    """Triangles of equal width in mel, each of unit height."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (LOWEST, HIGHEST))
    mel = np.linspace(low, high, bands + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.fft.rfftfreq(LENGTH, 1 / sampling_rate)[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    return np.maximum(0, np.minimum((frequency - low) / (middle - low), (high - frequency) / (high - middle)))
