"""The command line of `mtvit.tools.bench`, before flags are parsed."""

import pathlib
from typing import Sequence

_CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
# Benchmark -> its default config and batch, in images.
DEFAULTS = {
    "input": (f"{_CONFIGS}/imagenet.py", 64),
    "step": (f"{_CONFIGS}/cifar10.py:variant=nano/4", 128),
    "strategies": (f"{_CONFIGS}/cifar10.py", 64)}


def complete(words: Sequence[str]) -> tuple[str, list[str]]:
  """The benchmark, and the flags with its defaults.

  Args:
    words: of the command line, behind the program.
  """
  kind, words = (words[0], list(words[1:])) if words else ("", [])
  if kind.startswith("-"):           # --help, or an error that `main` raises.
    return "", [kind, *words]
  config, batch = DEFAULTS.get(kind, DEFAULTS["step"])
  given = lambda key: any(
      x.lstrip("-").split("=")[0] == key for x in words)
  if not given("config"):
    words.insert(0, f"--config={config}")
  if not given("config.batch_size"):
    words.append(f"--config.batch_size={batch}")
  return kind, words
