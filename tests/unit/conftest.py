"""What every property test needs: no clock decides, and in CI the same commit has one answer."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "trace-recipe",
    deadline=None,  # a machine that is stopped for a second is no fault of the code
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="TRACE_RECIPE_REQUIRE" in os.environ,
)
settings.load_profile("trace-recipe")
