"""DINOv2 and DINOv3 with random weights, saved; run by outside.py."""

import json

import safetensors.torch
import timm
import torch
import transformers

MODELS = {"v2": "vit_small_patch14_dinov2",
          "v2_reg": "vit_small_patch14_reg4_dinov2",
          "v3": "vit_small_patch16_dinov3",
          "v3_qkvb": "vit_small_patch16_dinov3_qkvb"}
SIZE = images.shape[1]  # noqa: F821


def randomise(model):
  """None is left at zero or one, and the branches weigh as much as the rest."""
  torch.manual_seed(0)
  for name, parameter in model.named_parameters():
    parameter.add_(0.03 * torch.randn_like(parameter))
    if "gamma" in name or "lambda" in name:
      parameter.add_(0.5)
  return model.eval()


def save(name, state):
  (folder / name).mkdir()  # noqa: F821
  safetensors.torch.save_file(
      {x: y.contiguous() for x, y in state.items()},
      folder / name / "model.safetensors")  # noqa: F821


results = {}
for name, architecture in MODELS.items():
  model = randomise(timm.create_model(
      architecture, num_classes=0, img_size=SIZE))
  save(name, model.state_dict())
  # As in timm's repositories on the hub.
  told = {x: model.default_cfg[x] for x in ("mean", "std")}
  (folder / name / "config.json").write_text(json.dumps(dict(  # noqa: F821
      architecture=architecture, num_classes=0,
      pretrained_cfg=told | {"input_size": [3, SIZE, SIZE]})))
  mean, std = (torch.tensor(told[x])[:, None, None] for x in told)
  results[name] = model.forward_features(
      (images.permute(0, 3, 1, 2) / 255 - mean) / std)  # noqa: F821
  if name == "v2_reg":
    # As its authors' file is: [CLS] alone has a position; the mask is there.
    state = model.state_dict()
    state["register_tokens"] = state.pop("reg_token")
    own = 0.1 * torch.randn(1, 1, 384)
    state["cls_token"] = state["cls_token"] - own
    state["pos_embed"] = torch.cat([own, state["pos_embed"]], 1)
    state["mask_token"] = torch.zeros(1, 384)
    save("authors", state)
    results["authors"] = model.forward_features(pixels)  # noqa: F821

for name, made in (("hf", "Dinov2"), ("hf_reg", "Dinov2WithRegisters")):
  model = randomise(getattr(transformers, f"{made}Model")(
      getattr(transformers, f"{made}Config")(
          hidden_size=192, num_hidden_layers=12, num_attention_heads=3,
          image_size=SIZE, patch_size=14)))
  model.save_pretrained(folder / name)  # noqa: F821
  results[name] = model(pixels).last_hidden_state  # noqa: F821
