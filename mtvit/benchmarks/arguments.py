"""The command line of `mtvit bench`, before flags are parsed."""

from typing import Sequence

# Benchmark -> its default config and batch, in images.
DEFAULTS = {
    "input": ("imagenet", 64),
    "step": ("cifar10:variant=nano/4", 128),
    "strategies": ("cifar10", 64)}


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
