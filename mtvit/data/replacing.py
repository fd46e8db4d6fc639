"""Examples that go bad while a run reads them, and who stands in for them.

A bad example is replaced by the first good one after it. That is a function of
the set of bad examples alone, so when, where and in which order they were found
never changes what a run sees.
"""

import atexit
import concurrent.futures
import contextlib
import re
from typing import Any, Callable, Iterator
import weakref

import numpy as np
import tensorflow as tf

from mtvit import errors
from mtvit.data import source as source_lib
from mtvit.run import console

MOST = 0.01       # Share of the examples that may go bad.
_SHOWN = 3        # So many are named in an error.
_OPEN: weakref.WeakSet = weakref.WeakSet()     # Generators of `elements`.


def replace(source: source_lib.Source, ids: Any) -> tuple[Any, Any]:
  """Puts good examples in place of those now known as bad.

  Args:
    source: a `Source`.
    ids: int64 [k], of examples.

  Returns:
    The ids to read, int64 [k], and whether each is another than asked, bool
    [k].
  """
  found = source.bad.substitutes(source.num_examples)
  if not found:
    return ids, tf.zeros_like(ids, tf.bool)
  bad = tf.constant(sorted(found), tf.int64)                # [m]
  good = tf.constant([found[i] for i in sorted(found)], tf.int64)
  place = tf.minimum(tf.searchsorted(bad, ids), len(found) - 1)
  hit = tf.gather(bad, place) == ids
  return tf.where(hit, tf.gather(good, place), ids), hit


def elements(
    source: source_lib.Source, make: Callable[[int], tf.data.Dataset],
    ids: Callable[[int], Any]
) -> Iterator[Any]:
  """Elements of a data set in numpy; it is made anew when an example is bad.

  Args:
    source: what it reads, a `Source`.
    make: k -> the data set from its element k on, with the replacements that
      are then known.
    ids: k -> ids of the examples in element k, before replacement.

  Raises:
    DataError: too many examples are bad, or something else is wrong.
  """
  found = _elements(source, make, ids)
  _OPEN.add(found)
  return found


def _elements(source, make, ids):
  done = 0
  while True:
    known = len(source.bad)
    try:
      for element in make(done).as_numpy_iterator():
        yield element
        done += 1
      return
    except tf.errors.OpError as e:
      # Otherwise another reader of this source has found some meanwhile.
      if known == len(source.bad):
        _find(source, ids(done), e)


@atexit.register
def _close():
  """Ends the reading that goes on when the program ends.

  Later tf.data would wait, for ever, for functions that Python no longer runs.
  """
  for reading in list(_OPEN):
    with contextlib.suppress(ValueError):       # A thread is reading it.
      reading.close()


def _find(
    source: source_lib.Source, ids: Any, error: tf.errors.OpError
) -> None:
  """Adds those of these examples that can't be decoded to the bad ones."""
  text = _plain(error)
  if source.kind == "streamed":
    raise errors.DataError(
        f"{source.name}: a record can't be decoded, and records in file order "
        f"can't be replaced: {text}",
        "prepare the data set again, as ArrayRecord")
  used = sorted(set(np.asarray(replace(source, tf.cast(ids, tf.int64))[0])))
  if source.kind == "held":     # Its images are decoded long since.
    used = []
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    found = {
        int(i): reason for i, reason in zip(used, pool.map(
            lambda i: _reason(source, int(i)), used)) if reason}
  if not found:
    raise errors.DataError(
        f"{source.name}: a batch can't be made, though each of its images can "
        f"be read: {text}", "run it again; if it fails again, report it")
  source.remember(sorted(found))
  report(source, found)


def report(source: source_lib.Source, found: dict[int, str]) -> None:
  """Adds id -> reason to a source's bad examples and says so.

  Raises:
    DataError: there are too many now.
  """
  source.bad.reasons.update(found)
  if len(source.bad) > MOST * source.num_examples:
    raise _too_many(source)
  for i, reason in found.items():
    console.note(f"bad image, replaced by another: {source.describe(i)} "
               f"({reason})")


def _reason(source: source_lib.Source, i: int) -> str:
  """Why an example can't be decoded; "" if it can."""
  try:
    source.decode(source.read(i), tf.constant(i, tf.int64))
    return ""
  except OSError as e:
    text = e.strerror or str(e)
  except tf.errors.OpError as e:
    text = _plain(e)
  except Exception as e:      # What a reader of records may raise.
    text = str(e) or type(e).__name__
  return " ".join(text.split())[:100]


def _plain(error: tf.errors.OpError) -> str:
  """TensorFlow's message without the names of its nodes."""
  text = re.sub(
      r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:\w+\]|Error in user-defined function.*?"
      r"with iterator: \S+", "", str(error.message))
  return " ".join(text.split())[:200]


def _too_many(source: source_lib.Source) -> errors.DataError:
  """The error, naming a few; a file beside the manifest names all."""
  lines = [f"{source.describe(i)} ({reason})"
           for i, reason in sorted(source.bad.reasons.items())]
  shown = [*lines[:_SHOWN], *["..."] * (len(lines) > _SHOWN)]
  where = ""
  if source.bad_list is not None and source.bad_list.write(lines):
    where = f"; listed in {source.bad_list.file}"
  return errors.DataError(
      f"{source.name}: {len(lines)} of {source.num_examples:,} images went bad "
      f"since they were checked, more than {MOST:.0%}{where}: "
      + ", ".join(shown), source.remedy)
