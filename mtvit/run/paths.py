"""Where the files of a run are: in a folder, or on Google Cloud Storage.

`etils.epath` serves both: a folder through Python's own functions, gs://
through TensorFlow's file system, which is imported only then. There an object
appears whole or not at all, folders are only a part of its name, nothing can be
appended, and a folder can't be renamed at once.
"""

import contextlib
import errno
import os
import pathlib
import re
import tempfile
from typing import Iterator

from etils import epath
from etils import epy

from mtvit import errors

with epy.lazy_imports():
  import tensorflow as tf

Given = str | os.PathLike[str]
CACHE_DIR = "~/.cache/mtvit"      # Of the configs.


def parse(given: Given) -> epath.Path:
  """What a user gave as a path; "~" is their home.

  Raises:
    ConfigError: it is neither a folder nor gs://BUCKET.
  """
  name = os.fspath(given)
  try:
    name.encode()
  except UnicodeEncodeError as e:    # What keeps arrays takes no other.
    raise errors.ConfigError(
        f"{name!r} is no UTF-8", "a path whose name is, or a link to it"
    ) from e
  scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", name)
  if not scheme:
    return epath.Path(expand(name))
  if re.match("gs:/[^/]", name):       # So pathlib would name a local folder.
    raise errors.ConfigError(
        f"{name} has lost a slash; pathlib.Path does that",
        f"the string {name.replace(':/', '://', 1)}, or etils.epath.Path")
  if not re.match("gs://[^/]", name):
    raise errors.ConfigError(
        f"{name} is neither a folder nor gs://BUCKET/PATH",
        "gs://, or copy it to a folder")
  return epath.Path(name)


def expand(name: str) -> str:
  """"~" as the user's home, or that of "~USER".

  Raises:
    ConfigError: there is none, as in a container whose user has no entry.
  """
  expanded = os.path.expanduser(name)
  if expanded.startswith("~"):       # Else this would be a folder's name.
    raise errors.ConfigError(
        f"{name}: nobody knows where {name.partition('/')[0]} is",
        "set HOME, or give the folder itself (caches: MTVIT_CACHE_DIR or "
        "--config.data.cache_dir)")
  return expanded


def cache(name: str) -> pathlib.Path:
  """A config's folder of caches; its default gives way to $MTVIT_CACHE_DIR.

  "" is the default too.

  Raises:
    ConfigError: it is on gs://, or see `expand`.
  """
  if name in ("", CACHE_DIR):
    name = os.environ.get("MTVIT_CACHE_DIR") or CACHE_DIR
    check_local(MTVIT_CACHE_DIR=name)
  return pathlib.Path(expand(name))


def is_remote(path: Given) -> bool:
  """Whether it is on Google Cloud Storage."""
  return os.fspath(path).startswith("gs://")


def absolute(path: epath.Path) -> epath.Path:
  """The same from the root; epath takes gs:// for a relative path there."""
  return path if is_remote(path) else path.absolute()


def check_local(**given: Given) -> None:
  """Raises ConfigError naming the first of name=path that is gs://."""
  for name, path in given.items():
    whole = os.fspath(path)
    # In data.name the kind of a source stands before the path.
    if is_remote(whole) or is_remote(whole.partition(":")[2]):
      raise errors.ConfigError(
          f"{name}={os.fspath(path)} must be on a disk of this machine",
          "a local folder; gcloud storage cp -r copies one from or to gs://")


def check_file(**given: Given) -> None:
  """Raises ConfigError naming the first of name=path that only waits.

  A named pipe, a socket or a device is no file, and reading it may not end.
  """
  for name, path in given.items():
    if not is_remote(path) and os.path.exists(path) and not (
        os.path.isfile(path) or os.path.isdir(path)):
      raise errors.ConfigError(
          f"{name}={os.fspath(path)} is a pipe, a socket or a device",
          "a file: cat it into one")


@contextlib.contextmanager
def os_errors(path: Given) -> Iterator[None]:
  """Makes what TensorFlow raises at gs:// an OSError, as a folder's are."""
  try:
    yield
  except Exception as e:
    if not is_remote(path) or not isinstance(e, tf.errors.OpError):
      raise
    number = {
        tf.errors.PERMISSION_DENIED: errno.EACCES,
        tf.errors.UNAUTHENTICATED: errno.EACCES,
        tf.errors.NOT_FOUND: errno.ENOENT}.get(e.error_code, errno.EIO)
    why = " ".join(e.message.split())[:200]
    raise OSError(number, why, os.fspath(path)) from e


@contextlib.contextmanager
def on_disk(folder: epath.Path) -> Iterator[pathlib.Path]:
  """A folder for what can only write to a disk; its files go to `folder`.

  Raises:
    OSError: they can't be written there.
  """
  if not is_remote(folder):
    yield pathlib.Path(folder)
    return
  with tempfile.TemporaryDirectory(prefix="mtvit_") as name:
    yield pathlib.Path(name)
    upload(pathlib.Path(name), folder)


def upload(source: pathlib.Path, target: epath.Path) -> None:
  """Copies the files of a folder, and of those in it."""
  for file in sorted(source.rglob("*")):
    if file.is_file():
      with os_errors(target):
        epath.Path(file).copy(
            target / file.relative_to(source), overwrite=True)


def child_environment() -> dict[str, str]:
  """The variables of a process that imports this very package."""
  root = str(pathlib.Path(__file__).parents[2])
  places = [root, os.environ.get("PYTHONPATH")]
  return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
