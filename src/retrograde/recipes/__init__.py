"""Experiments as TOML files, checked before anything runs."""

from retrograde.recipes._build import Experiment as Experiment
from retrograde.recipes._build import build as build
from retrograde.recipes._components import (
    describe as describe,
)
from retrograde.recipes._components import (
    did_you_mean as did_you_mean,
)
from retrograde.recipes._components import (
    find as find,
)
from retrograde.recipes._components import (
    is_comparison as is_comparison,
)
from retrograde.recipes._components import (
    parameter_model as parameter_model,
)
from retrograde.recipes._components import (
    registry as registry,
)
from retrograde.recipes._components import (
    shipped as shipped,
)
from retrograde.recipes._forecast import Forecast as Forecast
from retrograde.recipes._forecast import forecast as forecast
from retrograde.recipes._initialisers import INITIALISERS as INITIALISERS
from retrograde.recipes._read import RecipeError as RecipeError
from retrograde.recipes._read import Written as Written
from retrograde.recipes._read import change as change
from retrograde.recipes._read import check as check
from retrograde.recipes._read import load as load
from retrograde.recipes._read import read as read
from retrograde.recipes._run import (
    DrawnNetwork as DrawnNetwork,
)
from retrograde.recipes._run import (
    Outcome as Outcome,
)
from retrograde.recipes._run import (
    evaluate_run as evaluate_run,
)
from retrograde.recipes._run import (
    fit_options as fit_options,
)
from retrograde.recipes._run import (
    new_folder as new_folder,
)
from retrograde.recipes._run import (
    recipe_of as recipe_of,
)
from retrograde.recipes._run import (
    report_runs as report_runs,
)
from retrograde.recipes._run import (
    restore as restore,
)
from retrograde.recipes._run import (
    run as run,
)
from retrograde.recipes._run import (
    sample_run as sample_run,
)
from retrograde.recipes._schema import Recipe as Recipe
from retrograde.recipes._toml import to_toml as to_toml
