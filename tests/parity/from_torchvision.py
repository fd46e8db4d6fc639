"""Runs in the other environment: what torchvision draws, and makes of images.

`folder`/given.npz has what is to be drawn: sizes [k, 2], scales [k, 2], boxes
[b, 4], sigmas [b], and the factors of colour jitter [b, 4]; `images` are
uint8 [b, h, w, 3].
"""

import numpy as np
import torch
from torchvision import transforms
from torchvision.transforms import functional

given = np.load(folder / "given.npz", allow_pickle=False)   # noqa: F821
torch.manual_seed(1)
SIZE = 64
results = {}
for k, (size, scale) in enumerate(zip(given["sizes"], given["scales"])):
  empty = torch.zeros(1, *size.tolist())
  results[f"crops{k}"] = np.array([
      transforms.RandomResizedCrop.get_params(
          empty, scale.tolist(), [3 / 4, 4 / 3]) for _ in range(2000)])

views = images.permute(0, 3, 1, 2)                          # noqa: F821
made = {"resized": [], "blurred": [], "gray": [], "jittered": [],
        "any_order": [], "without_hue": [], "hue": []}
steps = (functional.adjust_brightness, functional.adjust_contrast,
         functional.adjust_saturation, functional.adjust_hue)
for i, view in enumerate(views):
  made["resized"].append(functional.resized_crop(
      view, *given["boxes"][i].tolist(), [SIZE, SIZE], antialias=True))
  side = view.shape[-1]
  kernel = 2 * (side // 20) + 1
  made["blurred"].append(functional.gaussian_blur(
      view, [kernel] * 2, [float(given["sigmas"][i])] * 2))
  made["gray"].append(functional.rgb_to_grayscale(view, 3))
  for name, order in (
      ("jittered", range(4)), ("any_order", torch.randperm(4)),
      ("without_hue", range(3)), ("hue", [3])):
    x = view
    for j in order:
      x = steps[j](x, float(given["factors"][i][j]))
    made[name].append(x)
results |= {name: torch.stack(x).permute(0, 2, 3, 1).numpy()
            for name, x in made.items()}
# The factors that it draws: brightness, contrast, saturation, hue.
jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
results["factors"] = np.array([
    [float(x) for x in transforms.ColorJitter.get_params(
        jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)[1:]]
    for _ in range(2000)])
results["sigmas"] = np.array([
    transforms.GaussianBlur.get_params(0.1, 2.0) for _ in range(2000)])
