"""Files and sets of files, whole or not there: killed, on full disks, twice."""

import errno
import os
import pathlib
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from mtvit import errors
from mtvit.run import files
from tests import environments

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ("a.bin", "sub/b.json")


def names(folder):
  return {str(f.relative_to(folder)) for f in folder.rglob("*")}


def content(folder):
  return {name: (folder / name).read_bytes() for name in names(folder)
          if (folder / name).is_file()}


def outside(code, *arguments):
  """Runs code in a process of its own; gives its exit code."""
  return subprocess.run(
      [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
      cwd=ROOT, timeout=300).returncode


@pytest.fixture
def small_files():
  """No file may be longer than 4 kB: what writes more gets an OSError."""
  with environments.small_files(4096):
    yield


def test_a_file_is_replaced(tmp_path):
  file = tmp_path / "new" / "file.txt"
  files.write(file, "hé")
  assert file.read_bytes() == "hé".encode()
  files.write(file, b"\xff")
  files.write(file, lambda f: f.write(b"last"))
  assert content(tmp_path) == {"new/file.txt": b"last"}
  mask = os.umask(0)
  os.umask(mask)
  assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask
  longest = tmp_path / ("x" * 255)
  files.write(longest, "")
  assert longest.exists()


@pytest.mark.parametrize("size", [5000, 100_000])   # Below and above a buffer.
def test_what_does_not_fit_leaves_the_old_file(tmp_path, small_files, size):
  file = tmp_path / "file"
  file.write_text("old")
  with pytest.raises(OSError) as e:
    files.write(file, bytes(size))
  assert e.value.errno == errno.EFBIG
  assert e.value.filename == str(file)
  assert content(tmp_path) == {"file": b"old"}


def test_any_error_leaves_the_old_file(tmp_path):
  file = tmp_path / "file"
  file.write_text("old")

  for error in (KeyboardInterrupt(), OSError("no number")):
    def fill(f, error=error):
      f.write(b"half")
      raise error

    with pytest.raises(type(error)) as e:
      files.write(file, fill)
    assert content(tmp_path) == {"file": b"old"}
  assert (e.value.filename, e.value.strerror) == (str(file), "no number")
  with pytest.raises(FileExistsError) as e:
    files.write(file / "below", "x")
  assert e.value.filename == str(file / "below")


def test_links_are_replaced_and_never_followed(tmp_path):
  other = tmp_path / "other"
  other.write_text("mine")
  link = tmp_path / "link"
  link.symlink_to(other)
  with pytest.raises(OSError, match="link"):
    files.append(link, "x")
  files.write(link, "new")
  files.append(link, ", more")
  assert other.read_text() == "mine"
  assert link.read_text() == "new, more" and not link.is_symlink()
  os.mkfifo(tmp_path / "fifo")
  with pytest.raises(OSError):       # At once; nobody reads it.
    files.append(tmp_path / "fifo", "x")


KILLED = """
    import os, signal, sys, pathlib
    from mtvit.run import files
    def fill(f):
      f.write(b"half" * 5000)
      f.flush()
      os.kill(os.getpid(), signal.SIGKILL)
    files.write(pathlib.Path(sys.argv[1]), fill)"""


def test_what_a_killed_process_left_is_removed(tmp_path):
  file = tmp_path / "file"
  assert outside(KILLED, file) == -signal.SIGKILL
  left, = names(tmp_path)
  assert left.startswith(".mtvit-") and left.endswith(".tmp")
  # Not ours, or not of this file.
  others = {"x.tmp", ".mtvit-x.tmp", left.replace(".tmp", ".tmp2"),
            "a" + left, left.replace(left[7:23], "0" * 16)}
  for name in others:
    (tmp_path / name).write_text("mine")
  files.write(file, "new")
  assert names(tmp_path) == others | {"file"}
  assert file.read_text() == "new"


def test_what_another_process_writes_is_let_alone(tmp_path):
  file, inside = tmp_path / "file", []

  def slow(f):
    f.write(b"first")
    assert outside(
        "import sys; from mtvit.run import files; "
        "files.write(sys.argv[1], 'b')",
        file) == 0
    inside.append(names(tmp_path))

  files.write(file, slow)
  assert len(inside[0]) == 2         # The other's file, and ours on its way.
  assert content(tmp_path) == {"file": b"first"}


def a_set(folder):
  return files.FileSet(folder, NAMES, "mark.json")


def test_a_set_is_whole_at_its_mark(tmp_path):
  folder = tmp_path / "set"
  assert not a_set(folder).is_ours()
  with a_set(folder) as made:
    made.write("mark.json", "all")
    made.write("a.bin", b"a")
    assert names(folder) == {"mark.json.unfinished", "a.bin"}
    assert a_set(folder).is_ours()
    with pytest.raises(errors.CheckpointError, match="unfinished.*\n.*again"):
      files.check_finished(folder / "mark.json", "write it again")
    made.write("sub/b.json", "b")
    with pytest.raises(ValueError):
      made.write("c", "c")
  files.check_finished(folder / "mark.json", "")
  (folder / "mine").write_text("mine")
  assert a_set(folder).is_ours()
  with a_set(folder) as made:
    assert content(folder).keys() == {"mark.json.unfinished", "mine"}
    made.write("a.bin", b"new")
  assert content(folder) == {"mark.json": b"", "a.bin": b"new", "mine": b"mine"}


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a set"])
@pytest.mark.parametrize("where", ["a.bin", "sub/b.json", "mark.json"])
def test_a_set_that_fails_leaves_nothing(tmp_path, small_files, before, where):
  folder = tmp_path / "deep" / "set"
  if before != "nothing":
    folder.mkdir(parents=True)
  if before == "a set":
    with a_set(folder) as made:
      made.write("a.bin", "old")
  with pytest.raises(OSError) as e, a_set(folder) as made:
    for name in (*NAMES, "mark.json"):
      made.write(name, bytes(5000 if name == where else 5))
  assert e.value.filename == str(folder / where)
  if before == "nothing":
    assert names(tmp_path) == set()
  else:
    assert names(folder) <= {"sub"}


# A process that is killed before the nth change of the disk, forked so that
# Python starts once.
EVERYWHERE = """
    import os, pathlib, signal, sys
    from mtvit.run import files
    root = pathlib.Path(sys.argv[1])

    def made(folder, first):
      with files.FileSet(
          folder, ("a.bin", "sub/b.json"), "mark.json") as made:
        made.write("mark.json", "all")
        made.write("a.bin", b"a" * 100_000)
        if first:
          made.write("sub/b.json", "b")

    def run(folder, first, kill):
      child = os.fork()
      if not child:
        left = [kill]
        def hook(event, arguments):
          if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (
              event == "open" and ".mtvit-" in str(arguments[0])
              and arguments[2] & os.O_CREAT):
            left[0] -= 1
            if not left[0]:
              os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        made(folder, first)
        os._exit(0)
      return os.waitpid(child, 0)[1]

    for again in (False, True):
      for kill in range(1, 100):
        folder = root / f"{again}{kill}"
        if again:
          made(folder, True)
        status = run(folder, not again, kill)
        if status == 0:
          assert kill > 8, kill
          break
        assert os.WTERMSIG(status) == signal.SIGKILL
        mark, begun = folder / "mark.json", folder / "mark.json.unfinished"
        if mark.exists() and not begun.exists():
          # Not begun yet, or all done.
          assert (folder / "a.bin").read_bytes() == b"a" * 100_000
        elif folder.exists() and [
            x for x in folder.iterdir() if not x.name.startswith(".mtvit-")]:
          assert begun.exists(), list(folder.iterdir())
        made(folder, not again)
        found = {str(x.relative_to(folder)) for x in folder.rglob("*")
                 if x.is_file()}
        assert found == {"mark.json", "a.bin"} | (
            set() if again else {"sub/b.json"}), (kill, found)
      else:
        raise AssertionError("always killed")"""


def test_a_set_is_killed_anywhere(tmp_path):
  assert outside(EVERYWHERE, tmp_path) == 0
