"""Learning from reward: actors, a critic, environments."""

from retrograde.reinforcement._actor_critic import Actor as Actor
from retrograde.reinforcement._actor_critic import ActorCritic as ActorCritic
from retrograde.reinforcement._atari import Atari as Atari
from retrograde.reinforcement._cued_choice import CuedChoice as CuedChoice
from retrograde.reinforcement._diary import Learning as Learning
from retrograde.reinforcement._diary import Row as Row
from retrograde.reinforcement._environment import AbstractEnvironment as AbstractEnvironment
from retrograde.reinforcement._environment import Percept as Percept
from retrograde.reinforcement._gymnasium import learn_gymnasium as learn_gymnasium
from retrograde.reinforcement._learn import Interface as Interface
from retrograde.reinforcement._learn import learn as learn
