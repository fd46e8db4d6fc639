"""TensorBoard has what an evaluation has found."""

import numpy as np
from PIL import Image

from mtvit.pictures import tensorboard


def test_tensorboard_has_the_same(tmp_path):
  from tensorboard.backend.event_processing import event_accumulator
  from tensorboard.util import tensor_util
  picture = np.zeros((5, 7, 3), np.uint8)
  Image.fromarray(picture).save(tmp_path / "layers.png")
  evaluation = {
      "probes": {"test": [{"probe": "fewshot_1%", "readout": "ct+gap",
                           "layer": 6, "accuracy": 0.25}]},
      "diagnostics": {
          "layers": [{"layer": 0, "cosine": 0.1},
                     {"layer": 1, "cosine": 0.75, "attention_entropy": None}],
          "rank": [{"readout": "cls", "rankme": 17.5}],
          "positions": {"r2_row": 0.5, "r2_column": 0.25,
                        "distance_correlation": 0.125},
          "dense": {"accuracy": 0.625}}}
  tensorboard.write(tmp_path / "run", 40, "set", evaluation,
                    [tmp_path / "layers.png"])
  events = event_accumulator.EventAccumulator(str(tmp_path / "run"))
  events.Reload()
  found = {}
  for key in events.Tags()["tensors"]:
    event, = events.Tensors(key)
    assert event.step == 40
    found[key.removeprefix("evaluation/set/")] = tensor_util.make_ndarray(
        event.tensor_proto)
  width, height, png = found.pop("layers")
  assert (width, height, png[:4]) == (b"7", b"5", b"\x89PNG")
  assert {key: float(x) for key, x in found.items()} == {
      "fewshot_1_percent/ct+gap/layer_6": 0.25, "last_layer/cosine": 0.75,
      "rankme/cls": 17.5, "positions/r2_row": 0.5, "positions/r2_column": 0.25,
      "positions/distance_correlation": 0.125, "dense": 0.625}
