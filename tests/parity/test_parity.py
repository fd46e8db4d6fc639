"""The same images through our encoder, and through timm and transformers."""

import json
import pathlib

import numpy as np
import pytest

from mtvit import encoder as encoder_lib
from mtvit.interchange import exporting
from tests.interchange import helpers
from tests.parity import environment

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent
README = HERE.parents[1] / "mtvit/interchange/README.md"
TOLERANCE = 1e-4                 # Of outputs of order one, in float32.


@pytest.fixture
def report(record_property, capsys):
  """Call it with what is compared, and both; both agree."""
  def compare(what, ours, theirs):
    error = np.abs(ours - theirs).max()
    with capsys.disabled():
      print(f"\n  {what}: largest difference {error:.1e}", end="")
    assert ours.shape == theirs.shape and ours.std() > 0.5
    assert error < TOLERANCE, what
  return compare


def outside(script, *folders_and_sizes):
  """Runs a script in the other environment; (images, results) of each folder.

  Importing torch and the libraries takes longer than all that they do.
  """
  made = []
  for folder, size in folders_and_sizes:
    made.append(np.random.default_rng(0).integers(
        0, 256, (3, size, size, 3), dtype=np.uint8))
    np.savez(folder / "images.npz", images=made[-1])
  environment.run(script, *(folder for folder, _ in folders_and_sizes))
  for images, (folder, _) in zip(made, folders_and_sizes):
    with np.load(folder / "results.npz", allow_pickle=False) as file:
      yield images, dict(file)


def sequence(encoder, images):
  """All outputs in the order of the sequence, [b, t+n, d]."""
  out = encoder.tokens(images)
  return np.concatenate(
      [np.stack([out.tokens[x] for x in encoder.token_names], 1),
       out.patches], 1)


EXPORTED = (        # Variant, side of the images, tokens, activation, policy.
    ("nano/8", 32, ("cls", "ct", "rot"), "gelu_tanh", "drop"),
    ("nano/8", 32, ("cls",), "gelu", "drop"),
    ("nano/8", 32, ("cls",), "gelu_tanh", "drop_all"),
    ("Ti/16", 224, ("cls", "ct"), "gelu", "drop"))


def test_exports(tmp_path, report):
  folders = []
  for number, case in enumerate(EXPORTED):
    folders.append((tmp_path / str(number), case[1]))
    exporting.export(helpers.encoder(*case), folders[-1][0])
  for case, (images, theirs) in zip(
      EXPORTED, outside(HERE / "from_export.py", *folders)):
    check_export(report, images, theirs, *case)


def check_export(
    report, images, theirs, variant, size, tokens, activation, policy):
  encoder = helpers.encoder(variant, size, tokens, activation, policy)
  assert theirs["known"].all()
  what = f"{variant} {len(tokens)} tokens {activation} {policy}"
  ours = sequence(encoder, images)
  report(f"{what}, timm", ours, theirs["model.safetensors"])
  # The folder as it is; of its card each library's code.
  for name in ("card timm 0", "card timm 1", "card transformers 2", "auto",
               "with classes"):
    report(f"{what}, {name}", ours, theirs[name])
  report(f"{what}, the card's features", encoder.features(images),
         theirs["card features"])
  assert list(theirs["size"]) == [3, size, size]
  assert not theirs["auto missing"].size
  assert not theirs["auto unexpected"].size
  data = json.loads(str(theirs["card data"]))
  assert data["library_name"] == "timm" and "license" not in data
  # The others have no place for the task tokens; this is what they then are.
  plain = helpers.encoder(variant, size, ("cls",), activation, policy)
  plain.params.update({name: encoder.params[name] for name in plain.params})
  ours = sequence(plain, images)
  report(f"{what}, timm from AugReg's npz", ours, theirs["augreg.npz"])
  report(f"{what}, transformers", ours, theirs["hf"])
  report(f"{what}, card transformers 3", ours, theirs["card transformers 3"])
  assert not theirs["hf missing"].size and not theirs["hf unexpected"].size
  for name in ("model.safetensors", "augreg.npz", "hf"):
    for value in ("mean", "std"):
      assert (theirs[f"{name} {value}"] == 0.5).all()
  assert list(theirs["model.safetensors size"]) == [3, size, size]
  np.testing.assert_allclose(theirs["hf pixels"], theirs["pixels"], atol=1e-6)


def test_imports_of_timm_and_transformers(tmp_path, report):
  (images, theirs), = outside(HERE / "to_import.py", (tmp_path, 64))
  (tmp_path / "timm.json").write_text(
      '{"tanh.safetensors": {"create_model": {"act_layer": "gelu_tanh"}}}')
  for name in ("plain", "prefixed", "mae", "tanh", "registers", "slots", "head",
               "gelu", "gelu_pytorch_tanh", "hf_mae"):
    file = tmp_path / f"{name}.safetensors"
    if not file.exists():
      file = tmp_path / name / "model.safetensors"
    encoder = encoder_lib.load(file)
    assert encoder.model.variant == "Ti/16" and encoder.image_size == 64
    report(f"import of {name}", sequence(encoder, images), theirs[name])


def test_dinov2_and_dinov3_in_and_out(tmp_path, report):
  (images, theirs), = outside(HERE / "dino.py", (tmp_path, 112))
  encoders = {}
  for name, want in theirs.items():
    encoder = encoder_lib.load(tmp_path / name / "model.safetensors")
    assert encoder.image_size == 112, name
    assert encoder.model.registers == (0 if name in ("v2", "hf") else 4), name
    report(f"import of DINO {name}", sequence(encoder, images), want)
    if name.startswith("v"):
      encoders[name] = encoder
  assert not encoders["v2"].model.rotary_base
  assert encoders["v3"].model.rotary_base == 100
  # And what none of them is: rotary, other epsilon, tokens of other names.
  encoders["own"] = helpers.encoder(
      "Ti/16", 112, ("cls", "ct"), "gelu", layer_scale=0.5, rotary_base=50.0,
      position_init="none", registers=2)
  encoders["plain"] = helpers.encoder(
      "Ti/16", 112, ("cls",), layer_scale=0.5, class_position=True)
  for name, encoder in encoders.items():
    exporting.export(
        encoder, tmp_path / f"exported_{name}", formats=["safetensors"])
  (images, theirs), = outside(
      HERE / "from_dino_export.py", (tmp_path, 112))
  told = {f"{name} by its card, {snippet}" for name in encoders
          for snippet in ("timm 0", "timm 1", "transformers 2")}
  assert theirs.keys() == encoders.keys() | told | {
      "v2 by name", "v2_reg by name"}
  ours = {name: sequence(encoder, images) for name, encoder in encoders.items()}
  for name, want in theirs.items():
    report(f"export of DINO {name}", ours[name.partition(" ")[0]], want)
  for name, before in ours.items():
    again = encoder_lib.load(
        tmp_path / f"exported_{name}" / "model.safetensors")
    np.testing.assert_allclose(sequence(again, images), before, atol=1e-5)


def test_imports_of_augreg(tmp_path, report):
  draw = np.random.default_rng(0).standard_normal
  normal = lambda *shape: (draw(shape) * 0.07).astype(np.float32)
  norm = lambda: {"scale": 1 + normal(192), "bias": normal(192)}
  augreg = {
      "embedding/kernel": normal(16, 16, 3, 192), "embedding/bias": normal(192),
      "cls": normal(1, 1, 192),
      "Transformer/posembed_input/pos_embedding": normal(1, 17, 192),
      "head/kernel": normal(192, 10), "head/bias": normal(10)}
  for leaf, x in norm().items():
    augreg[f"Transformer/encoder_norm/{leaf}"] = x
  modules = {}                     # The numbers of both formats -> leaves.
  for i in range(12):
    add = lambda names, **leaves: [
        modules.setdefault((*names, leaf), []).append(x)
        for leaf, x in leaves.items()]
    add(("LayerNorm_0", "LayerNorm_0"), **norm())
    add(("LayerNorm_2", "LayerNorm_1"), **norm())
    mha = [f"MultiHeadDotProductAttention_{i}/" for i in (1, 0)]
    for x in ("query", "key", "value"):
      add([m + x for m in mha], kernel=normal(192, 3, 64), bias=normal(3, 64))
    add([m + "out" for m in mha], kernel=normal(3, 64, 192), bias=normal(192))
    mlp = lambda j: [f"MlpBlock_{i}/Dense_{j}" for i in (3, 0)]
    add(mlp(0), kernel=normal(192, 768), bias=normal(768))
    add(mlp(1), kernel=normal(768, 192), bias=normal(192))
  big_vision = {
      f"params/{name}": x for name, x in augreg.items() if "pos_" not in name}
  big_vision["params/pos_embedding"] = normal(1, 16, 192)
  for (apart, stacked, leaf), layers in modules.items():
    big_vision[f"params/Transformer/encoderblock/{stacked}/{leaf}"] = (
        np.stack(layers))
    for i, x in enumerate(layers):
      augreg[f"Transformer/encoderblock_{i}/{apart}/{leaf}"] = x
  np.savez(tmp_path / "augreg.npz", **augreg)
  np.savez(tmp_path / "big_vision.npz", **big_vision)
  (images, theirs), = outside(HERE / "from_augreg.py", (tmp_path, 64))
  for name in ("augreg", "big_vision"):
    encoder = encoder_lib.load(tmp_path / f"{name}.npz")
    report(f"import of {name}.npz", sequence(encoder, images), theirs[name])


def test_the_snippets_of_the_readme(tmp_path, report):
  encoder = helpers.encoder("S/16", 224, ("cls", "ct"))
  exporting.export(encoder, tmp_path / "exported", ["safetensors", "hf"])
  (tmp_path / "exported" / "README.md").write_text(README.read_text())
  (images, theirs), = outside(HERE / "from_readme.py", (tmp_path, 224))
  both = sequence(encoder, images)
  plain = helpers.encoder("S/16", 224, ("cls",))
  plain.params.update({name: encoder.params[name] for name in plain.params})
  want = {"timm 0": both, "transformers 1": both, "timm 2": both,
          "transformers 3": sequence(plain, images)}
  assert theirs.keys() == want.keys()
  for name, ours in want.items():
    report(f"README, {name}", ours, theirs[name])
