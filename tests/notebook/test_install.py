"""launch/colab_install.py installs what is missing and nothing else."""

import importlib.util
import json
import pathlib
import re
import sys
import zipfile

import pytest

from launch import colab_install
from mtvit import errors
from tests.notebook import environment

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "requirements.txt").read_text()


def names(there):
  return {item.name for item in colab_install.missing(TEXT, there)}


def wheel(folder, name, version, needs=""):
  """Writes a package without code."""
  told = f"{name}-{version}.dist-info"
  with zipfile.ZipFile(
      folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
    archive.writestr(
        f"{told}/METADATA", f"Metadata-Version: 2.1\nName: {name}\n"
        f"Version: {version}\n" + f"Requires-Dist: {needs}\n" * bool(needs))
    archive.writestr(
        f"{told}/WHEEL",
        "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    archive.writestr(f"{told}/RECORD", "")


@pytest.fixture
def shop(tmp_path):
  """A session with `neighbour` 1.0, and what pip offers it; installs a pin."""
  wheel(tmp_path, "neighbour", "1.0")
  wheel(tmp_path, "neighbour", "2.0")
  for version in ("0.8", "0.9"):
    wheel(tmp_path, "wanted", version, "neighbour>=1.0")
  wheel(tmp_path, "wanted", "1.0", "neighbour>=2.0")
  wheel(tmp_path, "demanding", "1.0", "neighbour>=2.0")
  python = environment.session(tmp_path / "python", pathlib.Path(sys.prefix))
  pip = dict(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
  environment.run(
      python, "-m", "pip", "install", "neighbour==1.0", **pip)

  def install(line):
    file = tmp_path / "requirements.txt"
    file.write_text(f"{colab_install.BLOCK}\n{line}\n\nneighbour==2.0\n")
    said = environment.run(
        python, "-c",
        "import colab_install as c\ntry:\n"
        f"  c.install({str(file)!r})\nexcept c.errors.ConfigError as e:\n"
        "  print(e)\n",
        **pip, PYTHONPATH=f"{ROOT}:{ROOT / 'launch'}")
    return said, environment.packages(python)

  return install


def test_what_is_there_is_kept(shop):
  # The pin wants a newer neighbour; an older release fits.
  said, packages = shop("wanted==1.0")
  assert said == "installing: wanted\n"
  assert packages["neighbour"] == "1.0" and packages["wanted"] == "0.9"
  assert shop("wanted==1.0")[0] == "installing: nothing\n"


def test_the_pin_is_taken_where_it_fits(shop):
  assert shop("wanted==0.8")[1]["wanted"] == "0.8"


def test_what_does_not_fit_is_told(shop):
  said, packages = shop("demanding==1.0")
  assert "pip can't install demanding: " in said
  assert "fix: a newer runtime version" in said
  assert packages["neighbour"] == "1.0" and "demanding" not in packages


def test_it_wants_what_mtvit_uses_itself(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  wanted = names({})
  assert {"jax", "flax", "clu", "ml-collections", "scipy"} <= wanted
  assert "jaxlib" not in wanted            # Of the second block.
  assert len(wanted & {"tensorflow", "tensorflow-cpu"}) == 1
  block = TEXT.split(colab_install.BLOCK)[1].split("\n\n")[0].strip()
  assert wanted == {re.split("[=;]", line)[0] for line in block.splitlines()
                    } - ({"tensorflow", "tensorflow-cpu"} - wanted)


@pytest.mark.parametrize(
    "there", ["tensorflow", "tensorflow-cpu", "tf-nightly"])
def test_with_tensorflow_neither_package_is_wanted(there):
  # The module is here, whatever the package is called.
  assert not names({there: "2.21.0"}) & {"tensorflow", "tensorflow-cpu"}
  assert "tensorflow-datasets" in names({there: "2.21.0"})
  assert "opencv-python-headless" not in names({"opencv-python": "5.0.0.93"})


def test_names_are_compared_as_pip_does():
  assert {"array_record", "orbax-checkpoint"} <= names({})
  assert not {"array_record", "orbax-checkpoint"} & names(
      {"array-record": "0.8.3", "orbax-checkpoint": "0.12.0"})


def test_a_changed_file_is_noticed():
  with pytest.raises(ValueError, match="no '# What mtvit uses itself.'"):
    colab_install.missing(TEXT.replace(colab_install.BLOCK, "# Ours."), {})


def test_what_is_too_old_is_named():
  colab_install.check(colab_install.LOWEST)
  colab_install.check({name: "99.0" for name in colab_install.LOWEST})
  with pytest.raises(errors.ConfigError) as caught:
    colab_install.check({"jax": "0.7.0", "flax": "0.12.0"})
  assert "jax 0.7.0 (needs 0.7.1)" in str(caught.value)
  assert "fix: a newer runtime" in str(caught.value)
  assert "flax" not in str(caught.value)
  # Pure Python: pip may replace it, by what is known to fit.
  with pytest.raises(errors.ConfigError, match="%pip install 'optax=="):
    colab_install.check({"jax": "0.7.1", "optax": "0.1.9"})


def test_the_lowest_versions_are_those_tested_and_told():
  pins = dict(re.findall(
      r"^([\w-]+)==(\S+)", environment.REQUIREMENTS[0].read_text(), re.M))
  tested = {name: version for name, version in colab_install.LOWEST.items()
            if name != "tensorflow"}        # The same under another name.
  assert tested.items() <= pins.items()
  assert colab_install.LOWEST["tensorflow"] == pins["tensorflow-cpu"]
  cells = json.loads((ROOT / "launch/colab.ipynb").read_text())["cells"]
  told, = ["".join(c["source"]) for c in cells if c["id"] == "install-text"]
  for name, version in tested.items():
    shown = "TensorFlow" if name == "tensorflow-cpu" else name
    assert name == "jaxlib" or f"{shown} {version}" in " ".join(told.split())
