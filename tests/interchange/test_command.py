"""The command: what it prints, writes and refuses."""

from mtvit import interchange
from mtvit.interchange import exporting
from tests import commands
from tests.interchange import helpers


def command(*flags):
  return commands.run("mtvit.tools.export", *flags)


def test_it_exports_and_tells_what_is_left_out(tmp_path):
  encoder = helpers.encoder(gray=False)
  exporting.export(encoder, tmp_path / "a")
  done = command(f"--workdir={tmp_path}/a/mtvit.npz", f"--output={tmp_path}/b",
                 "--formats=safetensors,hf")
  assert done.returncode == 0, done.stderr
  told = done.stdout.splitlines()
  assert told[0] == f"{tmp_path}/b/model.safetensors"
  assert told[1] == "  note: the registers are ct, rot"
  assert told[2] == f"{tmp_path}/b/hf/model.safetensors"
  assert "tokens ct, rot are left out" in told[3]
  helpers.assert_same(
      interchange.read(tmp_path / "b" / "model.safetensors").params,
      encoder.params)
  assert not (tmp_path / "b" / "augreg.npz").exists()


def test_errors_are_short_and_have_codes(tmp_path):
  for flags, code, words in (
      ([], 2, "--workdir or --output is missing"),
      ([f"--workdir={tmp_path}", f"--output={tmp_path}/b"], 5, "checkpoints")):
    done = command(*flags)
    assert done.returncode == code and words in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) <= 5
    assert not (tmp_path / "b").exists()
