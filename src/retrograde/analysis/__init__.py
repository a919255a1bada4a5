"""From arrays to numbers: what a trained network has learnt, measured."""

from retrograde.analysis._confusion import confusion_matrix as confusion_matrix
from retrograde.analysis._connections import (
    ConnectionShares as ConnectionShares,
)
from retrograde.analysis._connections import (
    connection_shares as connection_shares,
)
