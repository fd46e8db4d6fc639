"""What a command does before it starts."""

import os

import pytest

from mtvit.run import entry
from tests import commands


OTHER = commands.ORDERED.replace("false", "true")
ONE = "--xla_force_host_platform_device_count=1"
FOUR = "--a=1 --xla_force_host_platform_device_count=4 --b=2"


@pytest.mark.parametrize("flags, given, threads, after", [
    ("", None, None, ""), ("--a=1", None, None, "--a=1"),
    (ONE, None, "48", f"{ONE} {commands.ORDERED}"),
    (FOUR, None, "48", f"{FOUR} {commands.ORDERED}"),
    (FOUR, "7", "7", f"{FOUR} {commands.ORDERED}"),
    (f"{OTHER} {ONE}", "7", "7", f"{OTHER} {ONE}")])
def test_simulated_devices_do_not_hang(
    flags, given, threads, after, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", flags)
  monkeypatch.setattr(os, "cpu_count", lambda: 48)
  monkeypatch.delenv("NPROC")
  if given:
    monkeypatch.setenv("NPROC", given)
  entry._let_simulated_devices_meet()
  assert os.environ.get("NPROC") == threads
  assert os.environ["XLA_FLAGS"] == after
