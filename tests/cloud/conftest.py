"""A bucket on this machine, which TensorFlow, TensorStore and Google see."""

import os
import sys

import pytest

from tests.cloud import emulator
from tests.cloud import environment


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
  """The emulator's bucket; the environment of this process leads to it."""
  packages = str(environment.packages())
  folder = tmp_path_factory.mktemp("cloud")
  with (emulator.running(folder) as (bucket, variables),
        pytest.MonkeyPatch.context() as patch):
    for name, value in variables.items():
      patch.setenv(name, value)
    patch.setenv(
        "PYTHONPATH", os.pathsep.join([os.getcwd(), packages]))
    patch.syspath_prepend(packages)
    # The libraries' packages share the folder "google" with others.
    import google
    patch.setattr(google, "__path__", [
        *google.__path__, f"{packages}/google"])
    sys.modules.pop("google.cloud", None)
    yield bucket


@pytest.fixture
def bucket(cloud):
  """The same, empty."""
  with cloud.lock:
    cloud.objects.clear()
    cloud.written.clear()
    cloud.denied = cloud.stalls = cloud.unreachable = None
  return cloud
