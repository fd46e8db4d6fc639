"""An encoder from outside the package, as mtvit/models/README.md has it."""

import dataclasses
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit.configs import finetune as finetune_config
import mtvit
from mtvit import config as config_lib
from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit import evaluate
from mtvit import finetune
from mtvit import pretrain
from mtvit.interchange import exporting
from mtvit.models import encoders
from mtvit.models import interface
from mtvit.models import vit
from mtvit.probes import features
from mtvit.run import config_values
from mtvit.training import cost
from mtvit.training import saved_runs
from mtvit.training import sharding
from tests import states
from tests.interchange import helpers
from tests.report import material


class Rotary(nn.Module):
  """A transformer that turns queries and keys by row and column."""
  token_names: tuple[str, ...]
  position_policy: str
  patch_size: int
  width: int = 32
  depth: int = 2
  heads: int = 2

  @nn.compact
  def __call__(self, image, hide_position=None, *, layers=False,
               attention=False, train=False):
    p, e, t = self.patch_size, self.width // self.heads, len(self.token_names)
    x = nn.Conv(self.width, (p, p), (p, p), name="embed")(image / 127.5 - 1)
    b, gh, gw, _ = x.shape
    tokens = self.param("tokens", nn.initializers.normal(), (t, self.width))
    x = jnp.concatenate([                                   # [b, t+n, d]
        jnp.broadcast_to(tokens, (b, t, self.width)),
        x.reshape(b, gh * gw, -1)], axis=1)
    place = jnp.stack(jnp.divmod(jnp.arange(gh * gw), gw), -1)   # [n, 2]
    angle = jnp.repeat(place, e // 4, -1) / jnp.tile(
        4.0 ** jnp.arange(e // 4), 2)                       # [n, e/2]
    if hide_position is not None:
      angle = jnp.where(hide_position[..., None], 0, angle)
    angle = jnp.pad(                                        # [b, t+n, 1, e/2]
        jnp.broadcast_to(angle, (b, gh * gw, e // 2)),
        ((0, 0), (t, 0), (0, 0)))[:, :, None]
    turn = jnp.exp(1j * angle * (self.position_policy != "drop_all"))
    outputs, weights = [x], []
    for i in range(self.depth):
      y = nn.LayerNorm(name=f"norm1_{i}")(x)
      q, k, v = jnp.moveaxis(nn.DenseGeneral(
          (3, self.heads, e), name=f"qkv_{i}")(y), 2, 0)    # [b, t+n, h, e]
      q, k = (turn * (z[..., ::2] + 1j * z[..., 1::2]) for z in (q, k))
      weights.append(nn.softmax(                            # [b, h, t+n, t+n]
          jnp.einsum("bqhe,bkhe->bhqk", q, k.conj()).real / e**0.5))
      y = jnp.einsum("bhqk,bkhe->bqhe", weights[-1], v)
      x += nn.DenseGeneral(self.width, (-2, -1), name=f"out_{i}")(y)
      y = nn.gelu(nn.Dense(64, name=f"fc1_{i}")(nn.LayerNorm(
          name=f"norm2_{i}")(x)))
      x += nn.Dense(self.width, name=f"fc2_{i}")(y)
      outputs.append(x)
    x = nn.LayerNorm(name="norm")(x)
    return interface.Features(
        {name: x[:, i] for i, name in enumerate(self.token_names)}, x[:, t:],
        jnp.stack(outputs) if layers else None,
        jnp.stack(weights) if attention else None)

  @nn.nowrap
  def final_norm(self, params, x):
    return nn.LayerNorm().apply({"params": params["norm"]}, x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RotaryConfig(interface.EncoderConfig):
  """The `model` section with kind="rotary"."""
  variant: str = "toy/8"

  @property
  def patch_size(self):
    return int(self.variant.partition("/")[2])

  def build(self, tokens, policy):
    return Rotary(tokens, policy, self.patch_size)


@pytest.fixture
def config(tiny, monkeypatch):
  """`tiny` with it, plain, for one task of a token and one of positions."""
  monkeypatch.setitem(encoders.ENCODERS, "rotary", RotaryConfig)
  for name, task in tiny.tasks.items():
    task.mode = "train" if name in (
        "contrastive", "relative_position") else "off"
  return config_values.to_plain(tiny) | {
      "model": {"kind": "rotary", "image_size": 32}}


@pytest.fixture
def images():
  return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_its_export_is_what_it_says(config, images, tmp_path):
  model = config_lib.parse(config).model
  module = model.encoder(("cls", "ct"))
  assert type(model) is RotaryConfig and type(module) is Rotary
  params = module.init(jax.random.key(0), images[:1])["params"]
  encoder = encoder_lib.Encoder(
      name="toy", model=model, module=module, params=params, gray=False, step=0)
  # Where patches are counts, though no parameter tells it.
  moved = np.roll(images, 8, 2)
  assert np.abs(encoder.features(images) - encoder.features(moved)).max() > 1e-3
  for name in ("safetensors", "npz", "hf"):
    with pytest.raises(errors.ConfigError, match=f"--formats={name}: .*rotary"):
      exporting.export(encoder, tmp_path / "export", ["numpy", name])
  assert not (tmp_path / "export").exists()
  # Our own format holds it whole.
  exporting.export(encoder, tmp_path / "export")
  again = mtvit.load(tmp_path / "export" / "mtvit.npz")
  np.testing.assert_array_equal(
      again.features(images, "ct"), encoder.features(images, "ct"))


def test_an_impossible_value_is_named(config):
  for key, value, message in (
      ("kind", "rotory", "model.kind is 'rotory'; choose one of vit, rotary"),
      ("remat", "some", "model.remat is 'some'"),
      ("image_size", 33, "model.image_size=33 is not a multiple"),
      ("drop_path", 0.1, "model.drop_path: no such key")):
    changed = config | {"model": config["model"] | {key: value}}
    with pytest.raises(errors.ConfigError, match=message):
      config_lib.parse(changed)


@pytest.mark.slow
def test_it_does_all_that_ours_does(config, tiny, images, tmp_path, caplog):
  # ---- It trains, and goes on from its second step bit for bit
  assert cost.flops(config_lib.parse(config)) > 1e6
  run, again = tmp_path / "run", tmp_path / "again"
  pretrain.pretrain(config, run)
  shutil.copytree(run, again)
  shutil.rmtree(again / "checkpoints" / "4")
  pretrain.pretrain(config, again)
  states.assert_same(run, again)

  # ---- Loaded, it has the features that the evaluations see
  encoder, trained = mtvit.load(run), saved_runs.load(run)
  mesh = sharding.create_mesh(trained.config.mesh)
  want = features.extractor(trained.model, mesh)(
      trained.params, np.pad(images, [(0, 5)] + [(0, 0)] * 3))
  for readout in ("cls", "ct", "gap"):
    np.testing.assert_allclose(
        encoder.features(images, readout), want[readout][:3], atol=1e-5)
  assert encoder.attention(images).shape == (3, 2, 18, 18)
  np.testing.assert_allclose(
      encoder.features(images, layer=2), encoder.features(images), atol=1e-5)
  found = evaluate.evaluate(run, evaluate.Options(
      num_train=24, num_test=16, layer_images=12, cheat_steps=1, draws=2))
  assert len(found["diagnostics"]["layers"]) == 3
  assert found["diagnostics"]["positions"] is None
  material.write(tmp_path / "page.html", run)
  assert "toy/8" in (tmp_path / "page.html").read_text()

  # ---- Fine-tuning leaves out what it does not know of a ViT's keys
  tuned = finetune_config.get_config()
  tuned.init_from, tuned.data = str(run), tiny.data
  tuned.total_epochs, tuned.total_steps, tuned.batch_size = 0.0, 1, 8
  tuned.tasks.supervised.num_classes = 4
  raw = finetune.complete(config_values.to_plain(tuned))
  assert raw["model"]["kind"] == "rotary"
  assert raw["model"]["extra_tokens"] == "ct"
  assert "rotary has no drop_path: left out" in caplog.text
  assert "registers" not in caplog.text
  with pytest.raises(errors.ConfigError, match="layer_decay=0.8: this encoder"):
    pretrain.pretrain(raw, tmp_path / "decayed")
  raw["optimizer"]["layer_decay"] = 1.0
  pretrain.pretrain(raw, tmp_path / "tuned")
  assert mtvit.load(tmp_path / "tuned").token_names == ("cls", "ct")


class Rolled(vit.Encoder):
  """Ours, but the halves of the image change places: no parameter shows it."""

  def __call__(self, image, *args, **kwargs):
    return super().__call__(jnp.roll(image, 16, 1), *args, **kwargs)


class RolledConfig(vit.ModelConfig):
  """Says nothing of what can hold it."""

  def build(self, tokens, policy):
    ours = super().build(tokens, policy)
    return Rolled(**{
        field.name: getattr(ours, field.name)
        for field in dataclasses.fields(ours)
        if field.name not in ("name", "parent")})


def test_what_derives_from_ours_is_not_taken_for_it(monkeypatch, tmp_path):
  plain = helpers.encoder()
  model = RolledConfig(kind="rolled", variant="pico/8", image_size=32)
  rolled = model.encoder(plain.token_names)
  derived = dataclasses.replace(plain, model=model, module=rolled)
  hidden = dataclasses.replace(plain, module=rolled)
  assert exporting.holding(plain) == tuple(exporting.FORMATS)
  assert exporting.holding(derived) == exporting.holding(hidden) == ()
  for encoder in (derived, hidden):
    with pytest.raises(errors.ConfigError, match="Rolled of model.kind="):
      exporting.export(encoder, tmp_path / "export")
  # Where it is listed, our own file says which it is.
  monkeypatch.setitem(encoders.ENCODERS, "rolled", RolledConfig)
  assert exporting.holding(derived) == ("numpy",)
  exporting.export(derived, tmp_path / "export")
  assert type(mtvit.load(tmp_path / "export" / "mtvit.npz").module) is Rolled
