"""Whatever the JSON of a checkpoint says: refused, or right; never a crash."""

import collections
import copy
import hashlib
import json
import random

from etils import epath
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.checkpoints import checks
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from mtvit.run import config_values
from mtvit.training import assembly
from mtvit.training import run_data
from mtvit.training import run_tasks
from mtvit.training import saved_runs

GONE = object()
NESTED = json.loads("[" * 200 + "]" * 200)
VALUES = (GONE, None, True, 3, -1, 2**70, 0.5, -1e308, float("inf"),
          float("nan"), "", "x", "\0", "\ud800", [], [None], {}, {"a": {}},
          NESTED)


class Sealed:
  """The newest checkpoint of a run, with other metadata."""

  def __init__(self, run):
    self.folder = run / "checkpoints" / "2"
    self.file = self.folder / "meta" / "metadata"
    self.meta = json.loads(self.file.read_text())

  def write(self, path, value):
    """Puts a value at a path of keys, and seals all of it."""
    meta = copy.deepcopy(self.meta)
    place = meta
    for key in path[:-1]:
      place = place[key]
    place.pop(path[-1], None)
    if value is not GONE:
      place[path[-1]] = value
    meta.pop("sha256", None)
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    self.file.write_text(json.dumps(meta | {"sha256": digest.hexdigest()}))


def places(tree, depth):
  """The paths to all values of nested dicts, inner ones too."""
  for key, value in tree.items():
    yield (key,)
    if isinstance(value, dict) and depth:
      yield from ((key, *rest) for rest in places(value, depth - 1))


def outcomes(sealed, loaded):
  """What each use of the metadata ends with; other errors pass."""
  uses = [
      lambda: saved_runs.rebuild(loaded._replace(meta=meta), "run"),
      lambda: goes_on(meta)]
  try:
    meta = checks.read_meta(epath.Path(sealed.folder))
  except errors.CheckpointError as e:
    assert len(str(e).splitlines()) <= 2
    return ["damaged"]
  found = []
  for use in uses:
    try:
      use()
      found.append("right")
    except errors.UserError as e:
      assert e.exit_code in (2, 5) and len(str(e).splitlines()) <= 2, e
      found.append(type(e).__name__)
  return found


def goes_on(meta):
  """What `pretrain` does with them before it trains."""
  checks.check_goes_on(epath.Path("run/checkpoints/2"), meta)
  checks.check_data(2, meta)
  config = config_lib.parse(meta["config"])
  saved = saving.Restored(2, meta)
  assert run_data.goes_on(saved, config_values.to_plain(meta["config"]))
  config_values.check_same(
      meta["config"], config_values.to_plain(meta["config"]))
  assembly.total_steps(config, 40, 2)
  tasks_lib.with_statistics(run_tasks.create(config), meta["statistics"])


@pytest.mark.parametrize("share", [
    0.08, pytest.param(1.0, marks=pytest.mark.slow)])
def test_any_json_in_a_checkpoint(share, run):
  sealed, loaded = Sealed(run), loading.load_checkpoint(run)
  assert outcomes(sealed, loaded) == ["right", "right"]
  draw, counts = random.Random(0), collections.Counter()
  for path in places(sealed.meta, 4):
    few = 2 if path[0] in ("config", "leaves") and len(path) > 1 else 99
    for value in draw.sample(VALUES, min(few, len(VALUES))):
      if draw.random() > share:
        continue
      sealed.write(path, value)
      try:
        counts.update(outcomes(sealed, loaded))
      except Exception as e:
        raise AssertionError(f"{path} = {value!r}") from e
  assert sum(counts.values()) > 800 * share
  assert min(counts[x] for x in (
      "damaged", "right", "CheckpointError", "ConfigError")) > 100 * share
