"""What the README files say is there: links, files, names, keys, commands."""

import importlib
import pathlib
import re

import pytest

from mtvit.__main__ import COMMANDS
from mtvit.configs import common
from mtvit.configs import photos
from mtvit.run import config_values

ROOT = pathlib.Path(__file__).parents[1]
FRONT = ROOT / "README.md"
READMES = (FRONT, *(file for folder in ("configs", "launch", "mtvit", "tests")
                    for file in sorted((ROOT / folder).rglob("*.md"))))
ROOMS = {file.parent.name for file in ROOT.glob("mtvit/*/__init__.py")} - {
    "configs"}

each = pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(
    readme.parent.relative_to(ROOT)))


def code(text):
  """The inline code and the code blocks of a Markdown text."""
  blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
  rest = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
  return blocks + [
      " ".join(x.split()) for x in re.findall(r"`([^`]+)`", rest)]


def anchors(file):
  """What GitHub makes of the headings."""
  text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.S | re.M)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
          for heading in re.findall(r"^#+ (.+)$", text, re.M)}


@each
def test_links_lead_somewhere(readme):
  text = re.sub(r"^```.*?^```", "", readme.read_text(), flags=re.S | re.M)
  for target in re.findall(r"\]\(([^)\s]+)\)", text):
    if target.startswith("https://"):
      continue
    path, _, anchor = target.partition("#")
    file = (readme.parent / path).resolve() if path else readme
    assert file.exists(), target
    assert file.is_relative_to(ROOT), target
    if anchor:
      assert anchor in anchors(file), target


@each
def test_files_are_there(readme):
  # In the code map a name stands under its folder.
  folders = [ROOT, ROOT / "mtvit", readme.parent] + [
      ROOT / "launch", *ROOT.glob("mtvit/*")] * (readme == FRONT)
  for name in re.findall(
      r"(?<![\w./*-])([\w/-]+\.(?:py|sh|ipynb|md|svg))\b",
      "\n".join(code(readme.read_text()))):
    if not re.search(r"\b[A-Z_]+\.", name):      # NAME.py stands for a name.
      assert any((folder / name).is_file() for folder in folders), name


@each
def test_modules_and_their_members_are_there(readme):
  text = readme.read_text()
  for name in re.findall(r"\bmtvit\.(?!npz|[\w.]*NAME)[\w.]*\w", text):
    parts = name.split(".")
    members = []
    while not (ROOT / "/".join(parts)).is_dir() and not (
        ROOT / "/".join(parts)).with_suffix(".py").is_file():
      members.insert(0, parts.pop())
    assert len(members) <= 2, name
    found = importlib.import_module(".".join(parts)) if members else None
    for member in members:
      assert hasattr(found, member), name
      found = getattr(found, member)


# The second has sections of evaluators too.
KEYS = {key for config in (common.base(), photos.get_config())
        for key in config_values.flatten(config.to_dict())}


@each
def test_config_keys_are_there(readme):
  text = readme.read_text()
  keys = re.findall(r"--config\.([\w.]*\w)", text)
  # `model.remat=dots`, `data.max_pixels`
  sections = "|".join({key.partition(".")[0] for key in KEYS if "." in key})
  keys += [found[1] for text in code(text) if (found := re.fullmatch(
      rf"((?:{sections})\.(?!py$|safetensors$)[a-z_.]+)(=\S*)?", text))]
  for key in keys:                     # Capitals stand for a name.
    pattern = re.sub(r"\b[A-Z]+\b", r"[\\w.]+", key)
    assert any(re.fullmatch(pattern, known) for known in KEYS), key


def source_of(script):
  """The text of a shell script or module, and of what it has flags from."""
  shared = {"sh": ["launch/tpu_common.sh"],
            "py": ["mtvit/run/distributed.py", "mtvit/run/entry.py"]}
  shared = shared[script.rpartition(".")[2]] + {
      "mtvit/finetune.py": ["mtvit/pretrain.py"],
      "mtvit/tools/bench.py": ["mtvit/benchmarks/arguments.py"]}.get(script, [])
  return "".join((ROOT / file).read_text() for file in [script, *shared])


@each
def test_commands_name_what_is_there(readme):
  text = "\n".join(code(readme.read_text())).replace("\\\n", " ")
  for script, rest in re.findall(r"bash (\S+\.sh)([^\n#]*)", text):
    assert (ROOT / script).is_file(), script
    words = rest.partition(" | ")[0].split()
    programs = [word for word in words if word in COMMANDS]
    if script == "launch/test.sh":
      for word in words:
        assert not word.startswith("tests") or (ROOT / word).exists(), word
      continue
    last = words.index(programs[0]) if programs else len(words)
    check_flags(script, words[:last])
    if programs:
      check_program(programs[0], words[last:])
  for command, rest in re.findall(
      r"(?:^|`|\n)mtvit ([a-z]\w*)([^\n#]*)", text):
    check_program(command, rest.split())


def check_program(command, words):
  check_flags(COMMANDS[command].replace(".", "/") + ".py", words)


def check_flags(script, words):
  """Asserts that a script, or a program of ours, has these flags."""
  assert (ROOT / script).is_file(), script
  source = source_of(script)
  for flag in re.findall(r"(?:^| )--(\w+)(?![\w.])", " ".join(words)):
    assert re.search(rf"--{flag}\b|[\"']{flag}[\"']", source), (script, flag)


def test_the_front_door_is_small_and_its_map_whole():
  text = FRONT.read_text()
  assert len(text.encode()) <= 13_000
  tree, = re.findall(r"^mtvit/\n(.*?)^tests/", text, re.S | re.M)
  assert set(re.findall(r"^  (\w+)/ ", tree, re.M)) == ROOMS
  files = {file.name for file in ROOT.glob("mtvit/*.py")} - {"__init__.py"}
  assert set(re.findall(r"^  (\w+\.py) ", tree, re.M)) == files
