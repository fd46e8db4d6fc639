"""Gradient norms and cosines, against gradients taken one task at a time."""

import jax
import numpy as np
from PIL import Image
import pytest

from mtvit.diagnostics import gradients
from mtvit.pictures import panels
from mtvit.training import sharding
from tests.training import test_train_step


def test_equals_gradients_taken_one_by_one(tiny):
  tiny.model.variant = "nano/8"               # 6 layers: thirds of two.
  parts = test_train_step.changed(tiny)
  objective, batch = parts.objective, test_train_step.first_batch(parts)
  mesh = test_train_step.one_device()
  with jax.set_mesh(mesh):
    state = parts.first_state()
    found = gradients.create(objective, mesh)(
        state, sharding.global_batch(batch, mesh))
    one = jax.jit(jax.grad(
        lambda p, name: objective.losses(p, state, batch)[0][name]),
        static_argnums=1)
    grads = {t.name: one(state.params, t.name)["encoder"]
             for t in objective.tasks}
  flat = {}
  for name, grad in grads.items():
    blocks = jax.tree.leaves(grad["blocks"])
    rest = [x for key, x in grad.items() if key not in ("blocks", "norm")]
    flat[name] = {
        "all": jax.tree.leaves(grad), "embed": jax.tree.leaves(rest),
        "early": [x[:2] for x in blocks], "middle": [x[2:4] for x in blocks],
        "late": [x[4:] for x in blocks]}
    for group, leaves in flat[name].items():
      flat[name][group] = np.concatenate(
          [np.asarray(x, np.float64).ravel() for x in leaves])
  names = list(flat)
  assert len(found) == 5 * (len(names) + len(names) * (len(names) - 1) // 2)
  for group in gradients.GROUPS:
    for i, a in enumerate(names):
      g = flat[a][group]
      norm = np.linalg.norm(g)
      assert found[f"gradients/{group}/norm/{a}"] == pytest.approx(
          norm, rel=1e-3)
      for b in names[i + 1:]:
        h = flat[b][group]
        assert found[f"gradients/{group}/cosine/{a}/{b}"] == pytest.approx(
            g @ h / norm / np.linalg.norm(h), abs=1e-3)


def test_heat_map_shows_agreement_in_red_and_conflict_in_blue(tmp_path):
  matrix = np.array([[4.0, 2.0, -3.0], [2.0, 1.0, 0.0], [-3.0, 0.0, 9.0]])
  line = {"step": 1}
  for group in gradients.GROUPS:
    line |= gradients.scalars(group, ["a", "b", "c"], matrix)
  names, norms, cosines = gradients.table([line, line], "early")
  assert names == ["a", "b", "c"]
  np.testing.assert_allclose(norms, [2, 1, 3])
  np.testing.assert_allclose(
      cosines, [[1, 1, -0.5], [1, 1, 0], [-0.5, 0, 1]])
  assert panels.save_gradients([line], tmp_path / "g.png") == [
      tmp_path / "g.png"]
  drawn = np.asarray(
      Image.open(tmp_path / "g.png").convert("RGB")).astype(int)
  red, blue = drawn[..., 0] - drawn[..., 2], drawn[..., 2] - drawn[..., 0]
  assert (red > 60).sum() > 5000 and (blue > 60).sum() > 2000
  assert panels.save_gradients([{"step": 1}], tmp_path / "n.png") == []


def test_a_gradient_of_zero_has_cosine_zero():
  found = gradients.scalars("all", ["a", "b"], np.array([[0.0, 0], [0, 1]]))
  assert found["gradients/all/cosine/a/b"] == 0
