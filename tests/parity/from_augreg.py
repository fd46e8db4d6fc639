"""timm's own reading of an AugReg file; run by outside.py."""

import timm

results = {}
for name in ("augreg", "big_vision"):
  # The files come from Flax, whose GELU is the approximation with tanh.
  model = timm.create_model(
      "vit_tiny_patch16_224", num_classes=0, img_size=64,
      act_layer="gelu_tanh", no_embed_class=name == "big_vision",
      checkpoint_path=str(folder / f"{name}.npz")).eval()  # noqa: F821
  results[name] = model.forward_features(pixels)  # noqa: F821
