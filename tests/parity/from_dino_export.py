"""Outputs of exports of DINOv2 and DINOv3; run by outside.py."""

import json

import timm

results = {}
for exported in sorted(folder.glob("exported_*")):  # noqa: F821
  name, file = exported.name.partition("_")[2], exported / "model.safetensors"
  told = json.loads((exported / "timm.json").read_text())
  model = timm.create_model(
      **told["model.safetensors"]["create_model"], checkpoint_path=str(file))
  results[name] = model.eval().forward_features(pixels)  # noqa: F821
  for snippet, tokens in snippets(exported).items():  # noqa: F821
    if snippet != "features":
      results[f"{name} by its card, {snippet}"] = tokens
  if name.startswith("v2"):
    # By its own name, too.
    config = json.loads(
        (folder / name / "config.json").read_text())  # noqa: F821
    model = timm.create_model(
        config["architecture"], num_classes=0,
        img_size=pixels.shape[-1], checkpoint_path=str(file))  # noqa: F821
    results[f"{name} by name"] = model.eval().forward_features(
        pixels)  # noqa: F821
