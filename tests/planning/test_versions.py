"""The TPU compiler that is installed is the one that this jax asks for."""

import importlib.metadata
import pathlib
import re

from mtvit.planning import compiler

FILE = pathlib.Path(__file__).parents[2] / "launch" / "libtpu.txt"


def test_the_pinned_libtpu_is_the_one_of_jax_tpu():
  pins = re.findall(r"^libtpu==(\S+)$", FILE.read_text(), re.MULTILINE)
  assert pins == [compiler.VERSION]
  asked, = [
      re.search(r"libtpu==([\d.]+)\.\*", line)[1]
      for line in importlib.metadata.requires("jax")
      if line.startswith("libtpu") and "tpu" in line.partition(";")[2]]
  assert compiler.VERSION.startswith(asked + ".")
