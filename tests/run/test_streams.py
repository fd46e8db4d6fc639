"""Printing never ends a program, whatever became of its streams."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PRINTS = """
import os, sys
from mtvit.run import streams
streams.protect()
for i in range(3000):
  print(f"line {i} of a log that is longer than a pipe holds", flush=i % 7 == 0)
print("note", file=sys.stderr)
sys.stdout.flush()          # What is written past it comes behind.
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
for number in (1, 2):
  try:
    os.write(number, b"a library's")
  except OSError:
    pass
os.write(file, b"mine")
sys.__stderr__.fileno()
"""


def run(redirect, file, *options, **environment):
  """The program under a shell's redirections; (stdout, stderr)."""
  done = subprocess.run(
      ["bash", "-c", f'set -o pipefail; "$@" {redirect}', "bash",
       sys.executable, *options, "-c", PRINTS, str(file)], cwd=ROOT,
      capture_output=True, text=True, timeout=300,
      env={**os.environ, **environment})
  assert done.returncode == 0, done.stderr
  assert file.read_text() == "mine"
  return done.stdout, done.stderr


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_a_reader_that_left(options, tmp_path):
  _, err = run("| head -n 1 > /dev/null", tmp_path / "file", *options)
  assert err == ("note: stdout: Broken pipe; going on without it\n"
                 "note\na library's")


def test_a_full_disk(tmp_path):
  _, err = run("> /dev/full", tmp_path / "file")
  assert err.count("note: stdout: No space left on device; going on") == 1
  out, _ = run("2> /dev/full", tmp_path / "file")
  assert out.count("line ") == 3000


@pytest.mark.parametrize("redirect", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed(redirect, tmp_path):
  out, err = run(redirect, tmp_path / "file")
  assert ("line 2999" in out) == (">&-" not in redirect.split())
  assert ("note" in err) == ("2>&-" not in redirect)


def test_streams_of_a_notebook_stay():
  program = (
      "import io, sys; from mtvit.run import streams; own = io.StringIO(); "
      "sys.stdout = own; streams.protect(); print('x'); "
      "assert sys.stdout is own and own.getvalue() == 'x\\n'")
  subprocess.run(
      [sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)


def test_letters_that_the_terminal_lacks():
  program = ("from mtvit.run import streams; streams.protect(); "
             "print('step 1 · \\udcff')")
  for encoding, shown in (("ascii", rb"\xb7"), ("utf-8", "·".encode())):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True,
        check=True, timeout=300,
        env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.stdout == b"step 1 " + shown + rb" \udcff" + b"\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_of_a_pipe_that_does_not_block(tmp_path, unbuffered):
  read, write = os.pipe()
  os.set_blocking(write, False)
  process = subprocess.Popen(
      [sys.executable, "-c", PRINTS, str(tmp_path / "file")], cwd=ROOT,
      stdout=write, stderr=subprocess.DEVNULL,
      env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
  os.close(write)
  with open(read, "rb") as f:
    lines = f.read().splitlines()
  assert process.wait(300) == 0
  assert len([x for x in lines if x.startswith(b"line ")]) == 3000
