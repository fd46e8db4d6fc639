"""Whether the TPU compiler is there; `.ci/run` requires it."""

import importlib.util
import os

import pytest

from tests import environments

_MISSING = importlib.util.find_spec("libtpu") is None
MARKS = [pytest.mark.libtpu, pytest.mark.skipif(
    _MISSING and os.environ.get(environments.REQUIRED) != "1",
    reason="libtpu is not installed; see mtvit/planning/README.md")]


def needed(test):
  """Marks a test that asks the TPU compiler; `-m libtpu` picks these."""
  for mark in MARKS:
    test = mark(test)
  return test
