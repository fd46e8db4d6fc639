"""Outputs of an export, through timm and transformers; run by outside.py."""

import json

import huggingface_hub
import timm
from timm import data
import transformers

told = json.loads((folder / "timm.json").read_text())  # noqa: F821
results = {}
for file in ("model.safetensors", "augreg.npz"):
  model = timm.create_model(
      **told[file]["create_model"],
      checkpoint_path=str(folder / file)).eval()  # noqa: F821
  results[file] = model.forward_features(pixels)  # noqa: F821
  config = data.resolve_model_data_config(model)
  results[f"{file} mean"] = config["mean"]
  results[f"{file} std"] = config["std"]
  results[f"{file} size"] = config["input_size"]

# The folder as it is, in timm, as its card says, and to go on from.
whole = str(folder)  # noqa: F821
for name, tokens in snippets(folder).items():  # noqa: F821
  results[f"card {name}"] = tokens
classes = timm.create_model(
    f"local-dir:{whole}", pretrained=True, num_classes=7).eval()
results["with classes"] = classes.forward_features(pixels)  # noqa: F821
assert classes(pixels).shape[1] == 7  # noqa: F821
results["size"] = data.resolve_model_data_config(classes)["input_size"]
auto, info = transformers.AutoModel.from_pretrained(
    whole, output_loading_info=True)
results["auto"] = auto.eval()(pixels).last_hidden_state  # noqa: F821
results["auto missing"] = sorted(info["missing_keys"])
results["auto unexpected"] = sorted(info["unexpected_keys"])
card = huggingface_hub.ModelCard.load(folder / "README.md")  # noqa: F821
results["card data"] = json.dumps(card.data.to_dict())

hf = str(folder / "hf")  # noqa: F821
model, info = transformers.ViTModel.from_pretrained(
    hf, add_pooling_layer=False, output_loading_info=True)
model.eval()
results["hf"] = model(pixels).last_hidden_state  # noqa: F821
results["hf missing"] = sorted(info["missing_keys"])
results["hf unexpected"] = sorted(info["unexpected_keys"])
processor = transformers.AutoImageProcessor.from_pretrained(hf)
results["hf mean"], results["hf std"] = (
    processor.image_mean, processor.image_std)
results["hf pixels"] = processor(
    list(images.numpy()), return_tensors="pt").pixel_values  # noqa: F821
results["pixels"] = pixels  # noqa: F821
known = timm.list_models("vit_*")
results["known"] = [told["model.safetensors"]["create_model"]["model_name"]
                    in known]
