"""Checks of contracts, for parts of your own as for ours."""

from retrograde.testing._contract import ContractError as ContractError
from retrograde.testing._neuron import check_neuron as check_neuron
from retrograde.testing._rule import check_rule as check_rule
from retrograde.testing._synapse import check_synapse as check_synapse
from retrograde.testing._task import check_task as check_task
