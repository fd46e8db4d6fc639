"""What is wrong with a command is told in at most two lines, with the fix."""

import re

import pytest

from tests import commands

CONFIGS = {
    "imports.py": "import os\nimport nothing_here\n",
    "syntax.py": "x = 1\ndef get_config(:\n  return 1\n",
    "name.py": "def get_config():\n  return undefined\n",
    "key.py": "def get_config():\n  return {}['a']\n",
    "type.py": "def get_config():\n\n  return 1 + 'a'\n",
    "lines.py": "def get_config():\n  raise RuntimeError('two\\nlines')\n",
    "file.py": "def get_config():\n  open('none.txt')\n",
    "without.py": "x = 1\n",
    "number.py": "def get_config():\n  return 3\n",
    "plain.py": "from mtvit.configs import quickstart\n"
                "def get_config():\n  return quickstart.get_config()\n",
    "text.txt": "x"}
Q = "--config=quickstart"
# The command, its words, and what the message has.
FAST = [
    ("pretrain", ["--config=quickstrat"],
     ["no shipped config", "(did you mean quickstart?)",
      "fix: --config=quickstart,"]),
    ("pretrain", ["--config=configs/quickstart.py"],
     ["there is no file", "fix: --config=quickstart, which works from any"]),
    ("pretrain", ["--config=mine.py"], ["there is no file mine.py", "cifar10"]),
    ("pretrain", ["--config=folder"], ["is a folder"]),
    ("pretrain", ["--config=imports.py"],
     ["imports.py, line 2: ModuleNotFoundError", "install nothing_here"]),
    ("pretrain", ["--config=syntax.py"], ["syntax.py, line 2: invalid syntax"]),
    ("pretrain", ["--config=name.py"],
     ["name.py, line 2: NameError: name 'undefined' is not defined"]),
    ("pretrain", [Q, "--config.total_stops=3"],
     ["--config.total_stops: there is no key", "did you mean total_steps?"]),
    ("pretrain", [Q, "--config.total_steps=many"],
     ["--config.total_steps=many must be a whole number"]),
    ("pretrain", [Q, "--config.model.variant=Q/8"],
     ["error: model.variant is 'Q/8'; it must be NAME/PATCH"]),
    ("pretrain", [Q, "--wrkdir=a"],
     ["there is no flag --wrkdir (did you mean --workdir?)", "--help"]),
    ("evaluate", ["--workdir=folder", "--num_test=many"],
     ["--num_test=many must be a whole number"]),
    ("__main__", ["pretrian"],
     ["no command pretrian (did you mean pretrain?)"]),
    ("__main__", ["mtvit.pretrian"], ["did you mean pretrain?"]),
]
SLOW = [
    ("pretrain", ["--config="], ["names no config", "quickstart"]),
    ("pretrain", ["--config"], ["--config has no value"]),
    ("pretrain", ["--config=./quickstart"], ["fix: --config=quickstart,"]),
    ("pretrain", ["--config=Quickstart"], ["fix: --config=quickstart,"]),
    ("pretrain", ["--config=text.txt"], ["text.txt"]),
    ("pretrain", ["--config=key.py"], ["key.py, line 2: KeyError: a"]),
    ("pretrain", ["--config=type.py"], ["type.py, line 3: TypeError: uns"]),
    ("pretrain", ["--config=lines.py"], ["RuntimeError: two lines"]),
    ("pretrain", ["--config=file.py"], ["file.py, line 2: FileNotFound"]),
    ("pretrain", ["--config=without.py"], ["no function get_config"]),
    ("pretrain", ["--config=number.py"], ["get_config() gives int"]),
    ("pretrain", ["--config=plain.py:a=b"],
     ["takes no option", "fix: --config=plain.py"]),
    ("pretrain", [f"{Q}:strategy=reprt"], ["did you mean report?"]),
    ("pretrain", [f"{Q}:varient=S/16"], ["no option varient=S/16"]),
    ("pretrain", ["--config=cifar10:variant=S"], ["must be NAME/PATCH"]),
    ("pretrain", [Q, "--config.total_steps=1.5"], ["a whole number"]),
    ("pretrain", [Q, "--config.total_steps"], ["has no value"]),
    ("pretrain", [Q, "--config.tasks.jigsw.mode=off"],
     ["--config.tasks.jigsw.mode: there is no key jigsw", "jigsaw?"]),
    ("pretrain", [Q, "--config.tasks.jigsaw.mode=of"], ["choose one of"]),
    ("pretrain", [Q, "--config.tasks.jigsaw=off"], ["is no value"]),
    ("pretrain", [Q, "--config.model=3"], ["--config.model=3"]),
    ("pretrain", [Q, "--config.model.image_size=33"],
     ["error: model.image_size=33 is not a multiple"]),
    ("pretrain", [Q, "--config.augment.crop_scale=0.5"], ["must be 2 values"]),
    ("pretrain", [Q, "--config.optimizer.decay=("], ["no regular expression"]),
    ("pretrain", [Q, "--config.optimizer.base_lr=nan"], ["is nan"]),
    ("pretrain", [Q, "--config.seed=-1"], ["error: seed=-1 must lie in"]),
    ("pretrain", [Q, "--config.input=grey"], ["choose one of rgb, gray"]),
    ("pretrain", [Q, "--config.mesh.data=3"], ["does not fit"]),
    ("pretrain", [Q, "--config.total_epochs=3"], ["set either total_steps"]),
    ("pretrain", [Q, "--config.model.freeze_patch_embed=maybe"],
     ["must be true or false"]),
    ("pretrain", [Q, "--confg.seed=1"], ["did you mean --config.seed?"]),
    ("pretrain", [Q, "stray"], ["stray"]),
    ("pretrain", [Q, "--plugin=nothing"], ["no such module"]),
    ("pretrain", [], ["--config is missing", "--config=quickstart"]),
    ("pretrain", ["--workdir=folder"], ["checkpoint"]),
    ("finetune", ["--config=finetun"], ["fix: --config=finetune,"]),
    ("evaluate", [], ["--workdir is missing"]),
    ("evaluate", ["--workdir=nothing"], ["nothing"]),
    ("evaluate", ["--workdir=text.txt"], ["text.txt"]),
    ("evaluate", ["--workdir=folder", Q], ["has no --config"]),
    ("evaluate", ["--workdir=folder", "--num_test=-1"], ["--num_test=-1"]),
    ("tools.export", ["--workdir=nothing", "--output=o"], ["nothing"]),
    ("tools.report", ["--workdir=folder"], ["not the work directory"]),
    ("tools.inspect_batch", [], ["--config is missing"]),
    ("tools.plan", [Q, "--topology=v9-3"], ["v5e"]),
    ("tools.bench", ["--what=no"], ["no flag --what"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("bad")
  for name, text in CONFIGS.items():
    (root / name).write_text(text)
  (root / "folder").mkdir()
  return root


def check(folder, command, words, wanted):
  done = commands.run(f"mtvit.{command}", *words, cwd=folder)
  said = done.stderr
  assert done.returncode in (2, 4, 5), said
  assert said.startswith("error: ") and len(said.splitlines()) <= 2, said
  for text in wanted:
    assert text in said, said
  assert not re.search(
      "Configuration is not|command line:|: flag --|Traceback|"
      r"(--?\w+): \1|(\w+\.)\2|\"'|'\"", said), said
  assert said.count("'") % 2 == 0 and said.count('"') % 2 == 0, said


name = lambda x: " ".join(x) if isinstance(x, list) else x


@pytest.mark.parametrize("command, words, wanted", FAST, ids=name)
def test_the_most_likely(folder, command, words, wanted):
  check(folder, command, words, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("command, words, wanted", SLOW, ids=name)
def test_others(folder, command, words, wanted):
  check(folder, command, words, wanted)


def test_traceback_shows_the_way(folder):
  done = commands.run(
      "mtvit.pretrain", "--config=name.py", "--traceback", cwd=folder)
  assert done.returncode == 2 and "Traceback" in done.stderr
  assert 'name.py", line 2, in get_config' in done.stderr


@pytest.mark.parametrize("command", ["pretrain", "tools.export"])
def test_help_wraps_and_names_the_own_flags(folder, command):
  done = commands.run(f"mtvit.{command}", "--help", cwd=folder, COLUMNS="80")
  lines = done.stdout.splitlines()
  assert max(map(len, lines)) <= 80
  text = " ".join(done.stdout.split())
  for flag in ("--workdir", "--[no]traceback", "--plugin"):
    assert flag in text
  if command == "pretrain":
    assert "shipped config by its name (cifar10, " in text
    assert "--config.KEY=VALUE" in text
