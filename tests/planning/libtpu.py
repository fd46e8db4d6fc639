"""Whether the TPU compiler is there; `.ci/run` requires it."""

import importlib.util
import os

import pytest

from tests import environments

MISSING = importlib.util.find_spec("libtpu") is None
needed = pytest.mark.skipif(
    MISSING and os.environ.get(environments.REQUIRED) != "1",
    reason="libtpu is not installed; see the README")
