"""Games of the Arcade Learning Environment, seen through spikes."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

SIDE = 84  # pixels of a frame, grey


@dataclasses.dataclass(frozen=True)
class Atari:
    """A game of the Arcade Learning Environment: its worlds, its actions, and what a network sees of it.

    A step is four frames, with the same action. Seen are the last two of them, grey, 84 × 84 pixels: an input is on
    where a pixel differs from the background, the commonest grey of the picture. Rewards are cut to -1, 0 and 1.

    Attributes:
        game: Name of the game's ROM, as `ale-py` brings them: `"pong"`.
        choices: Which of the game's actions there are to choose from.
        rows: First and last row (excluded) that are seen [pixels].
        pool: Side of the squares of which a single input tells whether something is there [pixels].
        contrast: Difference from the background from which on something is there [grey levels].

    Raises:
        ValueError: If a number is out of range.

    Source:
        Pong's choices, frames and clipped rewards: Bellec et al. (2020), Nat. Commun. 11:3625, and the authors'
        program. Differs from it: inputs are the picture itself, no convolutions.
    """

    game: str = "pong"
    choices: tuple[int, ...] = (0, 2, 3)  # stay, up, down, in the game's own short list
    rows: tuple[int, int] = (14, 76)  # between the walls
    pool: int = 2
    contrast: int = 20

    def __post_init__(self):
        if not 0 <= self.rows[0] < self.rows[1] <= SIDE:
            raise ValueError(f"`Atari(rows=...)` must lie in order between 0 and {SIDE}, got {self.rows}.")
        if not 1 <= self.pool <= self.rows[1] - self.rows[0]:
            raise ValueError(f"`Atari(pool=...)` must lie between 1 and the number of rows, got {self.pool}.")
        if not self.choices:
            raise ValueError("`Atari(choices=...)` must name at least one action.")

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return 2 * ((self.rows[1] - self.rows[0]) // self.pool) * (SIDE // self.pool)

    @property
    def actions(self) -> int:
        """Number of actions to choose from."""
        return len(self.choices)

    def worlds(self, actors: int, *, threads: int = 0, most_frames: int = 108_000) -> Any:
        """Makes the worlds of several actors, as `learn_gymnasium` takes them.

        Args:
            actors: How many.
            threads: Threads of the processor that run them; as many as there are if 0.
            most_frames: Where an episode is cut off [frames].

        Raises:
            ImportError: If `ale-py` is not installed.
        """
        try:
            from ale_py.vector_env import AtariVectorEnv
            from gymnasium.vector import AutoresetMode
        except ImportError:
            raise ImportError(
                "`Atari` needs the Arcade Learning Environment, which is not installed: `pip install "
                "retrograde[atari]`."
            ) from None
        return AtariVectorEnv(
            self.game,
            actors,
            stack_num=2,
            img_height=SIDE,
            img_width=SIDE,
            num_threads=threads,
            max_num_frames_per_episode=most_frames,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )

    def encode(self, seen: UInt8[np.ndarray, "actor 2 84 84"]) -> Bool[np.ndarray, "actor input"]:
        """Tells where something is, in both frames."""
        frames = seen[:, :, self.rows[0] : self.rows[1]].astype(np.int16)
        background = np.array([np.bincount(frame.ravel(), minlength=256).argmax() for frame in frames])
        there = np.abs(frames - background[:, None, None, None]) > self.contrast
        rows, columns = there.shape[2] // self.pool, there.shape[3] // self.pool
        squares = there[:, :, : rows * self.pool, : columns * self.pool]
        squares = squares.reshape(len(there), 2, rows, self.pool, columns, self.pool)
        return squares.any(axis=(3, 5)).reshape(len(there), -1)
