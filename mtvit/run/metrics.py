"""What a run writes down: metrics.jsonl and TensorBoard."""

import contextlib
import errno
import io
import math
import os
from typing import Any, Callable, Iterator, Mapping, Sequence

from absl import logging
from etils import epath
from etils import epy
import numpy as np
from PIL import Image

from mtvit.run import distributed
from mtvit.run import files
from mtvit.run import paths
from mtvit.run import reading
from mtvit.run import workdir as workdir_lib

with epy.lazy_imports():
  from clu import metric_writers
  import tensorflow as tf

METRICS = "metrics.jsonl"


class JsonLines:
  """A file with a JSON line for a step, written by the first process.

  An object on gs:// can't grow: it is written whole for each line, as an append
  would be there after reading it. 2,000 reports of 1.5 kB are 3 MB.
  """

  def __init__(
      self, file: epath.Path, keep: Callable[[Mapping[str, Any]], bool]
  ):
    """Drops damaged lines, and those that `keep` does not want.

    Those will come again. A file that can't be read is let alone.
    """
    self._file = file
    self._torn = False
    self._text = ""
    self._whole = True
    self._folder: tuple[int, int] | None = None
    if not distributed.is_main():
      return
    found = _read(file)
    self._torn = bool(found.why)
    self._whole = not found.why
    if self._whole and (found.good or found.bad):
      self._text = "".join(
          reading.sealed_line(line) for line in found.good if keep(line))
      files.write(file, self._text)

  def append(self, line: Mapping[str, Any]) -> None:
    """Adds a line; on a full disk it warns, and training goes on.

    Raises:
      ConfigError: the folder is not there any more, or another one is.
    """
    if not distributed.is_main():
      return
    text = reading.sealed_line(line)
    try:
      if paths.is_remote(self._file):
        if not self._whole:          # What can't be read is not overwritten.
          raise OSError(errno.EIO, "it can't be read, so not be added to")
        self._text += text
        files.write(self._file, self._text)
        return
      # Orbax makes its folder anew, and the one of the run with it.
      place = workdir_lib.identity(os.stat(self._file.parent))
      if place != (self._folder or place):
        raise FileNotFoundError
      self._folder = place
      files.append(self._file, "\n" * self._torn + text)
      self._torn = False
    except FileNotFoundError as e:
      raise workdir_lib.gone(self._file.parent) from e
    except OSError as e:
      logging.warning(
          "%s lacks step %d: %s", self._file, line["step"], e.strerror)
      self._torn = True


def read(file: epath.Path) -> list[dict[str, float]]:
  """The reports of a metrics.jsonl: their steps and finite numbers.

  Damaged lines are left out, with a warning that counts them.
  """
  return numbers(_read(file).good)


def numbers(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
  """What of some lines can be drawn: finite numbers under printable names."""
  drawn = lambda x: (
      type(x) is int and abs(x) < 2**62
      or type(x) is float and math.isfinite(x))
  return [{key: value for key, value in line.items()
           if key.isprintable() and drawn(value)} for line in lines]


def _read(file: epath.Path) -> reading.Lines:
  """The lines of a file; warns of what is left out."""
  found = reading.read_lines(file)
  for text in found.complaints():
    logging.warning("%s %s", file, text)
  return found


class Writer:
  """Writes scalars to `metrics.jsonl` and TensorBoard, on the first process.

  Attributes:
    skipped_steps: where skipped steps go.
  """

  def __init__(
      self, workdir: epath.Path, start_step: int,
      again: Callable[[Mapping[str, Any]], bool] = lambda line: False
  ):
    """Drops the lines that will be written again.

    Args:
      workdir: of the run.
      start_step: from which the run goes on.
      again: which of the lines up to there will be.
    """
    self._lines = JsonLines(
        workdir / METRICS,
        lambda line: line["step"] <= start_step and not again(line))
    self.skipped_steps = JsonLines(
        workdir / "nonfinite.jsonl", lambda line: line["step"] <= start_step)
    self._tensorboard = None
    if distributed.is_main():
      with tensorboard("this run"):
        self._tensorboard = metric_writers.SummaryWriter(str(workdir))

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one report."""
    self._lines.append({"step": step} | dict(scalars))
    if self._tensorboard:
      with tensorboard(f"step {step}"):
        self._tensorboard.write_scalars(step, scalars)

  def pictures(self, step: int, files: Sequence[epath.Path]) -> None:
    """Shows PNGs of a run's report in TensorBoard too."""
    if self._tensorboard and files:
      with tensorboard(f"the pictures of step {step}"):
        self._tensorboard.write_images(step, images(files, "report/"))

  def close(self) -> None:
    """Ends it."""
    if self._tensorboard:
      with tensorboard("the last steps"):
        self._tensorboard.close()


@contextlib.contextmanager
def tensorboard(what: str) -> Iterator[None]:
  """Makes what can't be written for TensorBoard a warning."""
  try:
    yield
  except tf.errors.OpError as e:
    logging.warning("TensorBoard lacks %s: %s", what, e.message)


def images(
    files: Sequence[epath.Path], prefix: str
) -> dict[str, np.ndarray]:
  """PNGs for TensorBoard: prefix and stem -> uint8 [1, h, w, 3]."""
  return {prefix + file.stem: np.asarray(
      Image.open(io.BytesIO(epath.Path(file).read_bytes())).convert(
          "RGB"))[None] for file in files}


def last_report(workdir: epath.Path) -> dict[str, float]:
  """The last training report of a run's metrics.jsonl, or nothing."""
  for line in reversed(read(workdir / METRICS)):
    if "train/loss" in line:
      return {key: value for key, value in line.items() if key != "step"}
  return {}


def mean(steps: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
  """Averages the metrics of the steps that were made; counters are the last's.

  `train/finite` is the share of steps that were; of none of them, the others
  are left out, since JSON has no nan.
  """
  made = [s for s in steps if s["train/finite"]]
  result = {key: float(np.mean([s[key] for s in made]))
            for key in steps[-1] if made}
  return result | {
      "train/finite": len(made) / len(steps),
      "train/skipped": float(steps[-1]["train/skipped"]),
      "train/skipped_in_a_row": float(steps[-1]["train/skipped_in_a_row"])}
