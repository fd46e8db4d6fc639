"""A process that works only when it is told to, and says how long it took.

Nothing but the standard library, so that any environment can run it. On stdin
and stdout, a line each:

  {...}     ->  {"ready": {...}}       settings; once all is warm
  NAME      ->  {"count": 4, "seconds": 1.2, "cpu_seconds": 2.1, ...}

and so on until stdin ends. Between two lines the process is idle.
"""

import json
import math
import multiprocessing
import os
import pathlib
import sys
import threading
import time
from typing import Any, Callable, Mapping

Repetition = Callable[[], dict[str, float]]
Start = Callable[[dict[str, Any]], tuple[dict[str, Any], Mapping[str, Any]]]


def serve(start: Start) -> None:
  """Answers until stdin ends.

  Args:
    start: settings -> what to tell when all is warm, and the repetitions by
      name.
  """
  answers = os.fdopen(os.dup(1), "w")
  # Libraries print; that is no answer.
  os.dup2(2, 1)

  def answer(found):
    print(json.dumps(found), file=answers, flush=True)

  told, repetitions = start(json.loads(sys.stdin.readline()))
  answer({"ready": told})
  for line in sys.stdin:
    found = repetitions[line.strip()]()
    answer(found | {"peak_bytes": peak_bytes()})


def timed(
    work: Callable[[], int], first: Callable[[], Any] = lambda: None
) -> dict[str, float]:
  """One repetition: what it counted, and what it took.

  Args:
    work: the repetition; returns the count.
    first: done before, off the clock. The host of a virtual machine takes back
      memory that is free for seconds; who needs some first waits for it.
  """
  first()
  began, cpu = time.perf_counter(), cpu_seconds()
  count = work()
  return {"count": count, "seconds": time.perf_counter() - began,
          "cpu_seconds": cpu_seconds() - cpu}


def drawn(batches: Any, images: int, counted: int) -> dict[str, float]:
  """One repetition of an endless pipeline, counted in images.

  What lay in its queues when it began has been made at no time, so it is taken
  first and not counted.

  Args:
    batches: an iterator.
    images: of a batch.
    counted: batches that are timed.
  """
  for _ in range(queued()):
    next(batches)

  def work():
    for _ in range(counted):
      next(batches)
    return counted * images

  found = timed(work)
  settle()
  return found


def enough(work: Callable[[int], Any], seconds: float = 2.0) -> int:
  """How many units of work take so long, at least two.

  Args:
    work: does so many, and waits for the last.
    seconds: of a repetition.
  """
  began = time.perf_counter()
  work(2)
  return max(2, math.ceil(2 * seconds / (time.perf_counter() - began)))


def queued() -> int:
  """At least as many batches as a pipeline makes while nobody takes any.

  tf.data's, with two prefetched and some of each stage in the making, has up
  to 8 on two cores, torch's DataLoader two for each worker.
  """
  return 6 + 2 * cores()


def settle(limit: float = 60.0) -> None:
  """Waits until the queues are full again and nothing works any more.

  Or for `limit` seconds: a driver may have a thread that never rests.
  """
  quiet, end = 0, time.monotonic() + limit
  while quiet < 10 and time.monotonic() < end:
    quiet = 0 if _working() else quiet + 1
    time.sleep(0.02)


def _working() -> bool:
  """Whether other threads, or processes started here, run or want to."""
  own = threading.get_native_id()
  for pid in [os.getpid(), *_children()]:
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
      try:
        state = _fields(task / "stat")[0]
      except OSError:       # It has ended.
        continue
      if state in "RD" and int(task.name) != own:
        return True
  return False


def _children() -> list[int]:
  return [child.pid for child in multiprocessing.active_children()
          if child.pid is not None]


def _fields(file: pathlib.Path) -> list[str]:
  """Those of a stat of proc(5) from the third, behind the name."""
  return file.read_text().rpartition(")")[2].split()


def cpu_seconds() -> float:
  """Of this process and of those that it started and that are alive."""
  total = time.process_time()
  for pid in _children():
    user, system = _fields(pathlib.Path(f"/proc/{pid}/stat"))[11:13]
    total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
  return total


def peak_bytes() -> int | None:
  """The most memory that this process has had; None where Linux doesn't tell.

  Not of getrusage: there a process begins with its parent's.
  """
  try:
    text = pathlib.Path("/proc/self/status").read_text()
    line = next(x for x in text.splitlines() if x.startswith("VmHWM:"))
  except (OSError, StopIteration):
    return None
  return int(line.split()[1]) * 1024


def cores() -> int:
  """That this process may use."""
  return len(os.sched_getaffinity(0))
