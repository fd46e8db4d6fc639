"""A module of the program, killed while it writes.

  python -m tests.faults.killed COUNT NAME MODULE FLAGS...

kills the process with SIGKILL when a file, complete under its temporary name,
is about to be called NAME (a regular expression), for the COUNTth time.
"""

import os
import re
import runpy
import signal
import sys


def watch(count, name):
  """Adds the hook."""
  left = [count]

  def hook(event, arguments):
    if event == "os.rename" and re.fullmatch(
        name, os.path.basename(os.fsdecode(arguments[1]))):
      left[0] -= 1
      if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

  sys.addaudithook(hook)


if __name__ == "__main__":
  watch(int(sys.argv[1]), sys.argv[2])
  sys.argv = sys.argv[3:]
  runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
