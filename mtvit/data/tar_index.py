"""Which images tar shards hold, where, and with which labels.

Each shard is read once, header by header, and what was found is kept in the
cache folder until the shard's size or time changes.

As in WebDataset, files make up an example if their names are alike up to the
first dot: an image, and its label in a `.cls` or `.json` file. They need not
stand beside each other.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import re
import threading
from typing import Any, BinaryIO, Callable, NamedTuple, Sequence

from mtvit import errors
from mtvit.data import cache_files
from mtvit.data import tar_members
from mtvit.run import console
from mtvit.run import reading

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "avif")
LABELS = ("label", "class", "class_name")     # In this order, of a JSON file.
_VERSION = 1
_WORKERS = 16         # Shards that are read at a time.
_WAIT = 0.5           # Seconds between two looks at `poll`.
_MOST_LABEL = 2**20   # Bytes of a file with a label.
_LONGEST_LABEL = 200
_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)


class Image(NamedTuple):
  """An image in a shard.

  Attributes:
    name: of the member.
    start: where its bytes begin.
    size: bytes.
    mark: CRC-32 of its header, so that another member is never taken for it.
    label: what its label says; None if it has none.
  """
  name: str
  start: int
  size: int
  mark: int
  label: str | None


class Shard(NamedTuple):
  """A shard, and what is in it.

  Attributes:
    path: of the shard.
    time_ns: when its content was modified.
    changed_ns: when anything of it was changed.
    images: in the order of their examples.
    refused: name of a member, or what is common to those of an example -> why
      it is not used.
    hidden: how many members' names begin with a dot.
    damage: why its rest can't be read; "" if it can.
  """
  path: str
  time_ns: int
  changed_ns: int
  images: list[Image]
  refused: dict[str, str]
  hidden: int
  damage: str


class _Index(NamedTuple):
  """What is kept of a shard; see `Shard`."""
  images: list[Image]
  refused: dict[str, str]
  hidden: int
  damage: str


def read(
    shards: Sequence[str], cache_dir: pathlib.Path, poll: Callable[[], None]
) -> list[Shard]:
  """What is in each shard; those that are new or changed are read.

  Args:
    shards: absolute paths.
    cache_dir: of the run.
    poll: called regularly; may raise to stop. What was read is kept.

  Raises:
    DataError: one is no plain tar archive, or can't be read.
  """
  stop = threading.Event()
  progress = console.Progress("reading tar shards, once: shards", len(shards))
  with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
    tasks = [pool.submit(_of, shard, cache_dir, stop) for shard in shards]
    try:
      left = set(tasks)
      while left:
        poll()
        done, left = concurrent.futures.wait(left, _WAIT, "FIRST_EXCEPTION")
        for task in done:
          task.result()
        progress.update(len(tasks) - len(left))
    finally:
      stop.set()
      for task in tasks:
        task.cancel()
  return [task.result() for task in tasks]


def _of(shard: str, cache_dir: pathlib.Path, stop: threading.Event) -> Shard:
  """What is in a shard, as it is kept or by reading it."""
  key = hashlib.sha256(os.fsencode(shard)).hexdigest()
  kept = cache_dir / "shards" / (key + cache_files.SUFFIX)
  shown = console.printable(shard)
  try:
    with open(shard, "rb", opener=reading.regular) as file:
      status = os.fstat(file.fileno())
      about = [_VERSION, shard, status.st_size, status.st_mtime_ns]
      index = _load(kept, about)
      if index is None:
        tar_members.check_is_tar(file, shown)
        index = _read(file, status.st_size, stop)
        cache_files.save_json(kept, {"about": about, "index": index})
  except OSError as e:
    raise errors.DataError(
        f"{shown} can't be read: {e.strerror}",
        "check the file, or give a pattern without it") from e
  return Shard(shard, status.st_mtime_ns, status.st_ctime_ns, *index)


def _load(kept: pathlib.Path, about: list[Any]) -> _Index | None:
  """What is kept of a shard; None if it is not of the shard as it is."""
  content = cache_files.load_json(kept)
  try:
    if content is None or content["about"] != about:
      return None
    images, refused, hidden, damage = content["index"]
    index = _Index([Image(*x) for x in images], dict(refused), hidden, damage)
    if all(map(_is_image, index.images)) and type(hidden) is int and all(
        isinstance(x, str) for x in [*refused, *refused.values(), damage]):
      return index
  except (ValueError, TypeError, KeyError, AttributeError):
    pass
  console.note(f"{kept} is damaged; the shard is read again")
  return None


def _is_image(image: Image) -> bool:
  """Whether a row that was kept has the right types."""
  return isinstance(image.name, str) and (
      image.label is None or isinstance(image.label, str)) and all(
      type(x) is int and x >= 0 for x in image[1:4])


class _Example:
  """The files of an example: its image, its labels, and all they are."""

  def __init__(self) -> None:
    self.fields: set[str] = set()
    self.image: tar_members.Member | None = None
    self.labels: dict[str, str | None] = {}


def _read(file: BinaryIO, size: int, stop: threading.Event) -> _Index:
  """What is in a shard."""
  index = _Index([], {}, 0, "")
  examples: dict[str, _Example] = {}
  try:
    for member in tar_members.walk(file, size):
      if stop.is_set():
        raise concurrent.futures.CancelledError
      name = re.sub(r"\A(\./+)+", "", member.name)
      if re.search(r"(\A|/)\.", name):
        index = index._replace(hidden=index.hidden + 1)
      else:
        _take(file, member._replace(name=name), examples, index.refused)
  except tar_members.Damaged as e:
    index = index._replace(damage=str(e))
  for key, example in examples.items():
    image, labels = example.image, example.labels
    if image is None:
      if example.fields:
        index.refused[key] = f"no image: only {', '.join(example.fields)}"[:200]
      continue
    index.images.append(Image(
        *image[:4], labels["cls"] if "cls" in labels else labels.get("json")))
  return index


def _take(
    file: BinaryIO, member: tar_members.Member, examples: dict[str, _Example],
    refused: dict[str, str]
) -> None:
  """Adds a member to its example, or to what is refused."""
  found = _NAME.fullmatch(member.name)
  key, field = (found[1], found[2].lower()) if found else (member.name, "")
  example = examples.setdefault(key, _Example())
  if member.refused:
    refused[member.name] = member.refused
  elif field in example.fields:
    refused[f"{member.name} (again)"] = "name that is there before"
  elif field in IMAGES and example.image:
    refused[member.name] = "second image of an example"
  else:
    example.fields.add(field)
    if field in IMAGES:
      example.image = member
    elif field in ("cls", "json"):
      example.labels[field] = _label(file, member, field)


def _label(
    file: BinaryIO, member: tar_members.Member, field: str
) -> str | None:
  """What a file says of the label; None if it says nothing that can be used."""
  if member.size > _MOST_LABEL:
    return None
  file.seek(member.start)
  data = file.read(member.size)
  try:
    if field == "cls":
      return _as_text(data.decode())
    content = reading.parse(data)
  except ValueError:
    return None
  if not isinstance(content, dict):
    return None
  found = (_as_text(content.get(key)) for key in LABELS)
  return next((label for label in found if label is not None), None)


def _as_text(label: Any) -> str | None:
  """A label as text: of integers the digits, of those below 0 none."""
  if type(label) is int:
    label = str(label)
  if not isinstance(label, str):
    return None
  label = label.strip()
  if re.fullmatch(r"[+-]?[0-9]{1,18}", label):
    return None if int(label) < 0 else str(int(label))
  usable = 0 < len(label) <= _LONGEST_LABEL and label.isprintable()
  return label if usable else None
