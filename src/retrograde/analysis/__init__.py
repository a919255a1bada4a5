"""From arrays to numbers: what a network has learnt, and what a rule tells it, measured."""

from retrograde.analysis._alignment import Alignment as Alignment
from retrograde.analysis._alignment import align as align
from retrograde.analysis._alignment import gradient_alignment as gradient_alignment
from retrograde.analysis._components import Drift as Drift
from retrograde.analysis._components import PrincipalComponents as PrincipalComponents
from retrograde.analysis._components import drift_and_spread as drift_and_spread
from retrograde.analysis._components import principal_components as principal_components
from retrograde.analysis._confusion import confusion_matrix as confusion_matrix
from retrograde.analysis._connections import (
    ConnectionShares as ConnectionShares,
)
from retrograde.analysis._connections import (
    connection_shares as connection_shares,
)
from retrograde.analysis._coverage import (
    Coverage as Coverage,
)
from retrograde.analysis._coverage import (
    CoverageError as CoverageError,
)
from retrograde.analysis._coverage import (
    check_coverage as check_coverage,
)
from retrograde.analysis._coverage import (
    coverage as coverage,
)
from retrograde.analysis._coverage import (
    uncovered as uncovered,
)
from retrograde.analysis._energy import ENERGY_PER_OPERATION as ENERGY_PER_OPERATION
from retrograde.analysis._energy import Activity as Activity
from retrograde.analysis._energy import Consumption as Consumption
from retrograde.analysis._energy import EnergyPerOperation as EnergyPerOperation
from retrograde.analysis._energy import StepOperations as StepOperations
from retrograde.analysis._energy import energy as energy
from retrograde.analysis._energy import layer_operations as layer_operations
from retrograde.analysis._energy import network_operations as network_operations
from retrograde.analysis._half_way import half_way as half_way
from retrograde.analysis._lags import CreditByLag as CreditByLag
from retrograde.analysis._lags import credit_by_lag as credit_by_lag
from retrograde.analysis._operations import Operations as Operations
from retrograde.analysis._operations import count_operations as count_operations
from retrograde.analysis._pareto import pareto_front as pareto_front
from retrograde.analysis._psychometric import Psychometric as Psychometric
from retrograde.analysis._psychometric import combined_spread as combined_spread
from retrograde.analysis._psychometric import fit_psychometric as fit_psychometric
from retrograde.analysis._removal import RemovalCurves as RemovalCurves
from retrograde.analysis._removal import choose_connections as choose_connections
from retrograde.analysis._removal import removal_curves as removal_curves
from retrograde.analysis._removal import remove_connections as remove_connections
from retrograde.analysis._selectivity import Selectivity as Selectivity
from retrograde.analysis._selectivity import classify_units as classify_units
from retrograde.analysis._selectivity import selectivity_index as selectivity_index
