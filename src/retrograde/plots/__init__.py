"""From arrays to axes: drawings, one palette, units on every axis."""

from retrograde.plots._alignment import plot_alignment as plot_alignment
from retrograde.plots._colours import COLOURS as COLOURS
from retrograde.plots._colours import MARKERS as MARKERS
from retrograde.plots._colours import PALETTE as PALETTE
from retrograde.plots._colours import Style as Style
from retrograde.plots._colours import colour as colour
from retrograde.plots._colours import rule_styles as rule_styles
from retrograde.plots._components import plot_trajectories as plot_trajectories
from retrograde.plots._components import plot_variance as plot_variance
from retrograde.plots._confusion import plot_confusion as plot_confusion
from retrograde.plots._credit import plot_credit_by_lag as plot_credit_by_lag
from retrograde.plots._curves import plot_curves as plot_curves
from retrograde.plots._distributions import plot_distribution as plot_distribution
from retrograde.plots._energy import plot_energy as plot_energy
from retrograde.plots._pareto import plot_pareto as plot_pareto
from retrograde.plots._psychometric import plot_psychometric as plot_psychometric
from retrograde.plots._raster import plot_membrane as plot_membrane
from retrograde.plots._raster import plot_raster as plot_raster
from retrograde.plots._raster import plot_time_constants as plot_time_constants
from retrograde.plots._removal import plot_removal as plot_removal
from retrograde.plots._samplers import plot_samplers as plot_samplers
