"""timm's models with random weights, saved; run by outside.py."""

import safetensors.torch
import timm
import torch

MODELS = {
    "plain": ("vit_tiny_patch16_224", dict()),
    "tanh": ("vit_tiny_patch16_224", dict(act_layer="gelu_tanh")),
    "registers": ("vit_tiny_patch16_224", dict(
        reg_tokens=4, no_embed_class=True)),
    # Registers with position embeddings of their own.
    "slots": ("vit_tiny_patch16_224", dict(reg_tokens=4)),
    "head": ("vit_tiny_patch16_224", dict(num_classes=10)),
}
results = {}
for name, (architecture, arguments) in MODELS.items():
  torch.manual_seed(0)
  model = timm.create_model(
      architecture, **{"num_classes": 0, "img_size": 64} | arguments).eval()
  for parameter in model.parameters():   # None is left at zero or one.
    parameter.add_(0.03 * torch.randn_like(parameter))
  safetensors.torch.save_file(
      model.state_dict(), folder / f"{name}.safetensors")  # noqa: F821
  results[name] = model.forward_features(pixels)  # noqa: F821

for activation in ("gelu", "gelu_pytorch_tanh"):
  import transformers
  torch.manual_seed(0)
  model = transformers.ViTModel(transformers.ViTConfig(
      hidden_size=192, num_hidden_layers=12, num_attention_heads=3,
      intermediate_size=768, image_size=64, patch_size=16,
      hidden_act=activation, layer_norm_eps=1e-6)).eval()
  for parameter in model.parameters():
    parameter.add_(0.03 * torch.randn_like(parameter))
  model.save_pretrained(folder / activation)  # noqa: F821
  results[activation] = model(pixels).last_hidden_state  # noqa: F821
