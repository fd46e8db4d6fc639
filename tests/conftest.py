"""Eight simulated devices, a tiny config, and small real images on disk."""

import os
import shutil
import tempfile

from tests import commands

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 "
    f"{commands.QUICK} {commands.ORDERED}")
# XLA has a thread for each of these devices; a device that waits in two
# collectives at once takes two, and then all of them may wait for ever.
os.environ["NPROC"] = "64"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
# Of commands that take a run's word for nothing that they write.
_cache = tempfile.TemporaryDirectory(prefix="mtvit_test_cache_")
os.environ["MTVIT_CACHE_DIR"] = _cache.name
# Runs that compile the same program compile it once, in whatever process.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"mtvit_test_compiled_{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# JAX writes an entry in place. One that another process is still writing fails
# its check sum and is compiled anew, with a warning that is no test's concern.
os.environ["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation"

from etils import epath  # noqa: E402
import jax  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from PIL import Image  # noqa: E402
import pytest  # noqa: E402

from mtvit.configs import quickstart  # noqa: E402
from mtvit import config as config_lib  # noqa: E402
from mtvit import pretrain  # noqa: E402
from mtvit.data import photo_crops  # noqa: E402
from mtvit.pictures import run_report  # noqa: E402
from mtvit.run import config_values  # noqa: E402
from mtvit.run import workdir as workdir_lib  # noqa: E402
from mtvit.training import sharding  # noqa: E402
from tests import environments  # noqa: E402
from tests.data import test_tar_shards  # noqa: E402


# Pictures take a third of the time of a run of few steps: runs that are made in
# the tests' own processes draw them where a test looks at them.
EVALUATORS = pretrain.EVALUATORS
pretrain.EVALUATORS = tuple(
    kind for kind in EVALUATORS if kind is not run_report.Report)

create_mesh = sharding.create_mesh


def on_two(config, devices=None):
  """Two of the devices, where it may be any number: a run is split by them."""
  few = (config.data, config.fsdp, config.tensor) == (-1, 1, 1)
  return create_mesh(config, devices or jax.devices()[:2 if few else None])


sharding.create_mesh = on_two
# To cut arrays among devices is a program to compile for each shape of them.
ocp.type_handlers.get_type_handler(jax.Array)._use_replica_parallel = False


def pytest_configure(config):
  """Removes compiled programs that a killed process has left unfinished."""
  if not hasattr(config, "workerinput"):
    workdir_lib.remove_damaged(
        epath.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
  """A folder for what all workers of the tests use, and one of them makes."""
  base = tmp_path_factory.getbasetemp()
  return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def image_folder(shared):
  """train/ (4 classes of 10) and test/ (4 of 5): 24 px crops, PNG."""
  root = shared / "images"
  with environments.locked(root):
    if not root.exists():
      _make_images(root)
  return root


def _make_images(root):
  for split, count in (("train", 10), ("test", 5)):
    for name in ("astronaut", "coffee", "rocket", "flower"):
      folder = root / split / name
      folder.mkdir(parents=True)
      for i, crop in zip(range(count), photo_crops.crops(name, split)):
        Image.fromarray(crop).resize((24, 24)).save(folder / f"{i}.png")


@pytest.fixture(scope="session")
def image_shards(image_folder, shared):
  """The images and classes of `image_folder` in tar shards; their pattern."""
  root = shared / "shards"
  with environments.locked(root):
    if not root.exists():
      for split, count in (("train", 2), ("test", 1)):
        files = sorted((image_folder / split).glob("*/*.png"))
        for i in range(count):
          first, last = (len(files) * x // count for x in (i, i + 1))
          test_tar_shards.write(root / f"{split}-{i}.tar", [
              (str(file.relative_to(image_folder).with_suffix(suffix)), data)
              for file in files[first:last] for suffix, data in (
                  (".png", file.read_bytes()),
                  (".cls", file.parent.name.encode()))])
  return f"{root}/{{split}}-*.tar"


@pytest.fixture(scope="module")
def kept():
  """What the tests of a module have made, for all of them."""
  return {}


@pytest.fixture
def pictures(monkeypatch):
  """The runs of a test that names it draw pictures."""
  monkeypatch.setattr(pretrain, "EVALUATORS", EVALUATORS)


@pytest.fixture
def on_all(monkeypatch):
  """A test that names it has all eight devices, whatever its mesh."""
  monkeypatch.setattr(sharding, "create_mesh", create_mesh)


@pytest.fixture
def tiny(image_folder, tmp_path):
  """The report's tasks on few images of a 4x4 grid, for four steps."""
  config = quickstart.get_config("strategy=report")
  config.total_steps = 4
  config.batch_size = 8
  config.data.name = f"folder:{image_folder}"
  config.data.cache_dir = str(tmp_path / "cache")
  config.model.unroll, config.model.image_size = 1, 32
  config.tasks.relative_position.num_pairs = 1
  config.diagnose_every = 0
  config.tasks.colorize.num_patches = 3
  config.tasks.inpaint.num_patches = config.tasks.jigsaw.num_pieces = 2
  config.knn.every_steps = 0
  config.log_every = 1
  config.checkpoint_every = 2
  return config


@pytest.fixture
def everything(tiny):
  """`tiny` with every pretext task, a teacher, a queue and a loss history."""
  for task in tiny.tasks.values():
    task.mode = "train"
  tiny.tasks.supervised.update(mode="off", num_classes=4)
  tiny.tasks.contrastive.update(kind="moco", queue_size=64)
  tiny.tasks.colorize.target = "bins"
  tiny.weighting.update(kind="dwa", dwa_window=2)
  tiny.diagnose_every = 2
  return tiny


@pytest.fixture
def parsed(tiny):
  """`tiny` as dataclasses."""
  return config_lib.parse(tiny)


@pytest.fixture
def made_once(shared, tmp_path):
  """Makes a run of a config when its name is first asked for; gives a copy."""
  def make(config, name):
    kept = shared / f"run_{name}"
    with environments.locked(kept):
      if not (kept / "run" / "result.json").exists():
        config.data.cache_dir = str(kept / "cache")
        pretrain.pretrain(config_values.to_plain(config), kept / "run")
      shutil.copytree(kept / "run", tmp_path / name)
    return tmp_path / name
  return make


@pytest.fixture
def run(tiny, made_once):
  """A run of two steps, with a checkpoint of each, and pictures."""
  tiny.total_steps, tiny.checkpoint_every = 2, 1
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pretrain, "EVALUATORS", EVALUATORS)
    return made_once(tiny, "run")


@pytest.fixture
def gray_run(tiny, made_once):
  """A run of a step on gray images, without embeddings of positions."""
  tiny.input, tiny.total_steps = "gray", 1
  tiny.tasks.relative_position.position = "drop_all"
  return made_once(tiny, "gray")
