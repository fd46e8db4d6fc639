"""What the README shows works as it stands there."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_snippet_of_the_python_api(run, tmp_path):
  blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
  snippet, = [block for block in blocks if "mtvit.load" in block]
  assert len(snippet.splitlines()) == 3
  (tmp_path / "runs").mkdir()
  run.rename(tmp_path / "runs" / "quickstart")
  script = tmp_path / "snippet.py"
  script.write_text(
      "import numpy as np\nimages = np.zeros((2, 32, 32, 3), np.uint8)\n"
      + snippet + "print(features.shape)\n")
  done = subprocess.run(
      [sys.executable, str(script)], cwd=tmp_path, capture_output=True,
      text=True, timeout=120, env={"PYTHONPATH": str(ROOT)})
  assert done.stdout == "(2, 96)\n", done.stderr


def test_commands_name_what_is_there():
  modules = set(re.findall(r"local\.sh (mtvit[\w.]+)", TEXT))
  assert {"mtvit.pretrain", "mtvit.evaluate", "mtvit.finetune",
          "mtvit.tools.export", "mtvit.tools.report"} <= modules
  files = {f"{name.replace('.', '/')}.py" for name in modules}
  files |= set(re.findall(r"(?:configs|launch|tests)/\w+\.(?:py|sh)", TEXT))
  assert not [file for file in files if not (ROOT / file).is_file()]
  # Their flags too.
  for command in re.findall(
      r"bash launch/local\.sh (mtvit\.\S+)((?: \S+| \\\n +\S+)*)", TEXT):
    source = (ROOT / f"{command[0].replace('.', '/')}.py").read_text()
    if command[0] == "mtvit.finetune":
      source += (ROOT / "mtvit/pretrain.py").read_text()
    if command[0] == "mtvit.pretrain":
      source += (ROOT / "mtvit/run/distributed.py").read_text()
    for flag in re.findall(r"--(\w+)", command[1]):
      assert f'"{flag}"' in source, (command[0], flag)
