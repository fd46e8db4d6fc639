"""A folder of image files, whose folders may be splits and classes."""

import collections
import os
from typing import Sequence

from mtvit import errors
from mtvit.data import folder_layout
from mtvit.data import folder_list
from mtvit.data import image_files
from mtvit.data import manifest as manifest_lib
from mtvit.data import source as source_lib
from mtvit.run import console

_few = folder_layout.few
_LABELS = "--config.data.labels"


def open_source(request: source_lib.Request) -> image_files.FileSource:
  """Opens a split of PATH; see `datasets.open_source`."""
  place = folder_layout.find(request)
  if place.note:
    console.note(place.note)
  listed = folder_list.of(place.root, request.poll)
  manifest = manifest_lib.read(
      place.root, {name: manifest_lib.place(entry.path)
                   for name, entry in listed.files},
      request.cache_dir, request.max_pixels, request.poll, source_lib.native)
  files = image_files.sort(place.root, manifest, request)
  files = files._replace(refused={**files.refused, **listed.refused})
  quiet = place.shared and request.held_out         # The other split said it.
  classes = _classes(files, listed.folders, request, quiet)
  if classes:
    known = set(classes)
    files = files.where(lambda name: _class_of(name) in known)
  complaint = image_files.complaint(files)
  if not files.good:
    raise errors.DataError(
        f"no images in {files.shown}" + (f": {complaint}" * bool(complaint)),
        f"expected {files.shown}/<image> or {files.shown}/<class>/<image> in "
        "JPEG, PNG, BMP, GIF, WebP or AVIF")
  if not quiet:
    if complaint:
      console.note(f"{files.shown}: {complaint}")
    _note_oddities(files, listed, classes)
  labels = {name: label for label, name in enumerate(classes)}
  return image_files.of_split(
      files, classes, lambda name: labels.get(_class_of(name), -1), request,
      place.shared)


def _class_of(name: str) -> str:
  """The folder in which a file lies, of those directly in the root; or ""."""
  return name.partition(os.sep)[0] if os.sep in name else ""


def _classes(
    files: image_files.Files, folders: tuple[str, ...],
    request: source_lib.Request, quiet: bool
) -> tuple[str, ...]:
  """Names of the labels, of which a run keeps those that it began with."""
  began = request.began and request.began.classes
  if request.labels == "none" or began == ():
    return ()
  if began:
    _check_classes(files.shown, folders, began)
    return began
  if request.labels == "folders" and not folders:
    raise errors.DataError(
        f"{files.shown} has no class folders", f"put the images into "
        f"{files.shown}/<class>/, or without labels: {_LABELS}=none")
  why = _why_no_classes(files) if request.labels == "auto" else ""
  if why and folders and not quiet:
    console.note(
        f"{files.shown}: no labels, as {why} ({_LABELS}=folders makes classes "
        f"of {_few(folders)})")
  return () if why else folders


def _why_no_classes(files: image_files.Files) -> str:
  """Why folders are taken for no classes; "" if they are.

  They are classes if there are two with images, and more than half of all
  images lie in one place of each. So folders of years that hold months, and a
  few beside many loose images, are none.
  """
  places = collections.Counter(map(os.path.dirname, files.good))
  largest: dict[str, int] = {}
  for place, count in places.items():
    if place:
      folder = place.partition(os.sep)[0]
      largest[folder] = max(count, largest.get(folder, 0))
  if len(largest) < 2:
    return "there are no two folders with images"
  if sum(largest.values()) * 2 > places.total():
    return ""
  return ("most images lie beside the folders"
          if places[""] * 2 > places.total()
          else "the folders are divided further")


def _check_classes(
    shown: str, folders: Sequence[str], began: Sequence[str]
) -> None:
  """Says which class folders are new, or raises DataError for one gone."""
  gone = [name for name in began if name not in folders]
  if gone:
    raise errors.DataError(
        f"{shown}: {len(gone)} of the {len(began)} class folders with "
        f"which the run began are gone: {_few(gone)}",
        "restore them (empty ones will do), or use another --workdir")
  new = [name for name in folders if name not in began]
  if new:
    console.note(f"{shown}: {len(new)} new class folders are not used by this "
                 f"run, whose labels stay: {_few(new)}")


def _note_oddities(
    files: image_files.Files, listed: folder_list.Listing,
    classes: Sequence[str]
) -> None:
  """Says what is odd about the classes, and what is left out."""
  used = {_class_of(name) for name in files.good}
  empty = [name for name in classes if name not in used]
  if empty:
    console.note(f"{files.shown}: no images in {len(empty)} of {len(classes)} "
                 f"class folders: {_few(empty)}")
  if classes and len(used) == 1:
    console.note(
        f"{files.shown}: one class only, so kNN accuracy tells nothing")
  loose = sum(os.sep not in name for name, _ in listed.files)
  if classes and loose:
    console.note(
        f"{files.shown}: {loose:,} files beside the class folders are not used "
        f"({_LABELS}=none takes all, without labels)")
  if listed.left_out:
    console.note(f"{files.shown}: left out, as hidden or of other programs: "
                 f"{_few(sorted(listed.left_out))}")
