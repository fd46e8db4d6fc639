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
  if name == "plain":
    # Inside of what trains it: DINO's names, and those of a whole MAE.
    state = {f"teacher.backbone.{x}": y for x, y in model.state_dict().items()}
    state |= {"student.head.mlp.0.weight": torch.ones(3)}
    safetensors.torch.save_file(
        state, folder / "prefixed.safetensors")  # noqa: F821
    decoder = {x: torch.ones(3) for x in (
        "mask_token", "decoder_pos_embed", "decoder_blocks.0.norm1.weight")}
    safetensors.torch.save_file(
        model.state_dict() | decoder, folder / "mae.safetensors")  # noqa: F821
    results["prefixed"] = results["mae"] = results[name]

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

# Its decoder lies in the file too. Nothing is masked, in the order of patches.
torch.manual_seed(0)
model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(
    hidden_size=192, num_hidden_layers=12, num_attention_heads=3,
    intermediate_size=768, image_size=64, patch_size=16, mask_ratio=0.0,
    decoder_hidden_size=48, decoder_num_hidden_layers=1,
    decoder_num_attention_heads=3, decoder_intermediate_size=96,
    layer_norm_eps=1e-6)).eval()
for parameter in model.parameters():
  parameter.add_(0.03 * torch.randn_like(parameter))
model.save_pretrained(folder / "hf_mae")  # noqa: F821
noise = torch.arange(16.0).expand(len(pixels), 16)  # noqa: F821
results["hf_mae"] = model.vit(
    pixels, noise=noise).last_hidden_state  # noqa: F821
