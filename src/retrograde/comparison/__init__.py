"""Rules compared on equal footing: any networks × rules × tasks × seeds."""

from retrograde.comparison._compare import compare as compare
from retrograde.comparison._contender import Contender as Contender
from retrograde.comparison._forecast import Forecast as Forecast
from retrograde.comparison._forecast import forecast as forecast
from retrograde.comparison._outcome import Comparison as Comparison
from retrograde.comparison._outcome import Outcome as Outcome
from retrograde.comparison._page import HEAD as HEAD
from retrograde.comparison._page import table_rows as table_rows
from retrograde.comparison._plan import Entry as Entry
from retrograde.comparison._plan import Measuring as Measuring
from retrograde.comparison._plan import Plan as Plan
from retrograde.comparison._plan import read_plan as read_plan
from retrograde.comparison._run import (
    check_contenders as check_contenders,
)
from retrograde.comparison._run import (
    contenders_of as contenders_of,
)
from retrograde.comparison._run import (
    plan_of as plan_of,
)
from retrograde.comparison._run import (
    run_contenders as run_contenders,
)
