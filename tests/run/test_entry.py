"""What a command does before it starts."""

import os

import pytest

from mtvit.run import entry


@pytest.mark.parametrize("flags, given, threads", [
    ("", None, None),
    ("--xla_force_host_platform_device_count=1", None, "48"),
    ("--a=1 --xla_force_host_platform_device_count=4 --b=2", None, "48"),
    ("--xla_force_host_platform_device_count=4", "7", "7")])
def test_simulated_devices_get_threads(flags, given, threads, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", flags)
  monkeypatch.setattr(os, "cpu_count", lambda: 48)
  monkeypatch.delenv("NPROC")
  if given:
    monkeypatch.setenv("NPROC", given)
  entry._add_threads_for_simulated_devices()
  assert os.environ.get("NPROC") == threads
