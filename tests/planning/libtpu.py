"""Whether the TPU compiler is there; `.ci/run` requires it."""

import importlib.util
import os

import pytest

MISSING = importlib.util.find_spec("libtpu") is None
needed = pytest.mark.skipif(
    MISSING and os.environ.get("MTVIT_REQUIRE_ALL") != "1",
    reason="libtpu is not installed; see the README")
