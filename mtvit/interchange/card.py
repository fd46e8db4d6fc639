"""The model card of an export: README.md, as the Hugging Face Hub has it.

It states what is known and shows no more of a path than its last part. The
licence and who made the model only the user knows: the card says what to add.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import jax

from mtvit.interchange import described
from mtvit.run import config_values
from mtvit.run import reading

if TYPE_CHECKING:
  from mtvit import encoder as encoder_lib

NAME = "README.md"
_LONGEST = 2**22                   # Bytes of a card that may be ours.
# YAML that parses without a licence, and says where it goes.
_HEAD = """---
library_name: timm
pipeline_tag: image-feature-extraction
tags:
- timm
- transformers
- mtvit
- self-supervised-learning
# TODO: your licence, such as apache-2.0; then take the "#" away.
# license:
---
"""
_TODO = """
> **TODO before you publish this:** the licence (in the first lines of this
> file), who made the model and whom to ask, what the training images show, and
> whether they may be used for this.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story:
  """What is known of how an encoder came to be.

  Attributes:
    config: of the run, plain.
    data: `num_examples` and `classes` of its training data.
    skills: task -> skill at the end of training; heldout/TASK -> that on
      images that were not trained on.
    results: parts of Markdown: a sentence, and a table below it.
  """
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  skills: Mapping[str, float] = dataclasses.field(default_factory=dict)
  results: Sequence[str] = ()


UNKNOWN = Story()

def public(value: Any) -> Any:
  """JSON without folders: of a path its last part is left.

  "folder:/home/me/photos" becomes "folder:photos"; a path from here, such as
  runs/a, stays.
  """
  if isinstance(value, Mapping):
    return {key: public(x) for key, x in value.items()}
  if isinstance(value, list | tuple):
    return [public(x) for x in value]
  if not isinstance(value, str):
    return value
  kind = re.match(r"(\w+:(?!//))?", value)[0]  # type: ignore[index]
  path = value.removeprefix(kind)
  if not kind and not re.match(r"[/~]|\.\.?/|\w+://", path):
    return value
  return kind + re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def text(
    encoder: "encoder_lib.Encoder", tokens: Mapping[str, tuple[str, ...]],
    notes: Mapping[str, Sequence[str]], folder: str, story: Story
) -> str:
  """The card.

  Args:
    encoder: that was exported.
    tokens: format -> the special tokens that it holds.
    notes: file -> what it leaves out.
    folder: the name of the export's folder.
    story: of the encoder.
  """
  name, size = encoder.model.variant, encoder.image_size
  count = sum(x.size for x in jax.tree.leaves(encoder.params))
  lead = (
      f"# {name}, {size} px, from {code(pathlib.PurePath(encoder.name).name)}"
      f"\n\nA Vision Transformer {name} with {count / 1e6:.1f} M parameters "
      f"for images of {size} x {size} pixels, at step {encoder.step} of its "
      "pretraining with mtvit: many self-supervised tasks in one forward pass. "
      "It gives features, and has no classes.")
  parts = [lead, _TODO, *_use(encoder, tokens, folder, story),
           *_training(story), *_results(story),
           *_limits(encoder, notes, story)]
  whole = _HEAD + "\n" + "\n\n".join(x.strip("\n") for x in parts) + "\n"
  return f"{whole}\n{_seal(whole)}\n"


def is_edited(folder: pathlib.Path) -> bool:
  """Whether a folder has a card that is not as `text` made it."""
  file = folder / NAME
  if not os.path.lexists(file):
    return False
  try:
    content = reading.content(file, _LONGEST).decode()
  except (OSError, reading.Unusable, UnicodeDecodeError):
    return True
  whole, _, seal = content.removesuffix("\n").rpartition("\n")
  return seal != _seal(whole)


def _seal(whole: str) -> str:
  """The last line of a card, by which its changes show."""
  return f"<!-- mtvit {hashlib.sha256(whole.encode()).hexdigest()[:32]} -->"


def _use(
    encoder: "encoder_lib.Encoder", tokens: Mapping[str, tuple[str, ...]],
    folder: str, story: Story
) -> list[str]:
  """How to load it in each library."""
  size = encoder.image_size
  parts = [
      "## Use it",
      f"`pixels` are float32 [b, 3, {size}, {size}] in RGB, normalised with "
      "mean 0.5 and deviation 0.5, that is uint8 / 127.5 - 1"
      + ("; it was trained on gray images, so make them gray first."
         if encoder.gray else ".")]
  if "safetensors" in tokens:
    parts += _timm(encoder, tokens["safetensors"], folder, story)
  if "hf" in tokens:
    parts += ["With transformers alone" + (
        ", without the task tokens, which changes all outputs:"
        if encoder.token_names[1:] else ":"), _python(
            "import transformers",
            "model = transformers.AutoModel.from_pretrained(\n"
            f"    {_quoted(folder + '/hf')}, "
            "add_pooling_layer=False).eval()",
            "tokens = model(pixels).last_hidden_state  # [CLS], patches")]
  for name, file in (("numpy", "mtvit.npz"), ("safetensors",
                                              "model.safetensors")):
    if name in tokens:
      parts += [
          "With mtvit, where `images` are uint8 arrays or PIL images of any "
          "size:", _python(
              "import mtvit",
              f"encoder = mtvit.load({_quoted(f'{folder}/{file}')})",
              "features = encoder.features(images, "
              f"readout={_quoted(_readout(tokens[name], story))})")]
      break
  return parts


def _timm(
    encoder: "encoder_lib.Encoder", tokens: tuple[str, ...], folder: str,
    story: Story
) -> list[str]:
  """How to load it in timm, and in transformers through timm."""
  width, count = encoder.module.width, math.prod(encoder.grid)
  readout, t = _readout(tokens, story), len(tokens)
  read = (f"tokens[:, {t}:].mean(1)  # [b, {width}]: the mean patch"
          if readout == "gap" else f"tokens[:, {tokens.index(readout)}]  "
          f"# [b, {width}]: {readout}")
  order = f"# [b, {t} + {count}, {width}]: {', '.join(tokens)}, patches"
  return [
      "With timm (`pip install timm`; on a machine without a GPU first `pip "
      "install torch torchvision --index-url "
      "https://download.pytorch.org/whl/cpu`, both from one place):",
      _python("import timm",
              f"model = timm.create_model({_quoted(f'local-dir:{folder}')}, "
              "pretrained=True).eval()",
              f"tokens = model.forward_features(pixels)  {order}",
              f"features = {read}"),
      'From the hub the name is `"hf-hub:USER/NAME"`. The transform of a '
      "photograph is `timm.data.create_transform("
      "**timm.data.resolve_model_data_config(model))`. By its name in timm:",
      _python("import timm", "model = " + described.timm_call(
          encoder, tokens, f"{folder}/model.safetensors") + ".eval()",
              "tokens = model.forward_features(pixels)"),
      "With transformers, which asks timm (`pip install transformers timm`):",
      _python("import transformers",
              "model = transformers.AutoModel.from_pretrained("
              f"{_quoted(folder)}).eval()",
              f"tokens = model(pixels).last_hidden_state  {order}")]


def _readout(tokens: tuple[str, ...], story: Story) -> str:
  """What the run's own kNN reads, if it is there; else the mean patch."""
  named = (story.config.get("knn") or {}).get("readout")
  return named if named in tokens else "gap"


def _training(story: Story) -> list[str]:
  """Data, tasks and config."""
  config = public(story.config)
  if not config:
    return []
  images, classes = (story.data.get(x) for x in ("num_examples", "classes"))
  what = (f" ({images:,} images" + (
      f" of {len(classes)} classes" if classes else ", without classes") + ")"
          if isinstance(images, int) else "")
  tasks = [(name, task) for name, task in config.get("tasks", {}).items()
           if task.get("mode") == "train"]
  rows = [[name, task.get("weight", 1.0), *(
      _number(story.skills.get(key)) for key in (name, f"heldout/{name}"))]
          for name, task in tasks]
  supervised = any(name == "supervised" for name, _ in tasks)
  return [
      "## Training",
      f"Data: {code(config['data'].get('name'))}{what}, split "
      f"{code(config['data'].get('train_split'))}. Labels were "
      + ("used by the task `supervised`." if supervised else "not used.")
      + f" {config.get('batch_size')} images in a step, "
      f"{config.get('views')} views of each.",
      table(["task", "weight", "skill", "on held-out images"], rows),
      "Skill is 1 - loss / loss of the constant predictor, on training "
      "batches at the end, and on images that were not trained on: 0 is what "
      "a model has that knows nothing.",
      "<details><summary>The whole configuration</summary>",
      "```\n" + "\n".join(_settings(config)) + "\n```", "</details>"]


def _settings(config: Mapping[str, Any]) -> list[str]:
  """KEY=VALUE for each key, but for tasks that are off and places."""
  off = tuple(f"tasks.{name}." for name, task in config["tasks"].items()
              if task.get("mode") == "off")
  return [f"{key}={json.dumps(value)}"
          for key, value in config_values.flatten(config).items()
          if not key.startswith(off) and key not in config_values.PLACES]


def _results(story: Story) -> list[str]:
  return ["## Results", *(story.results or [
      "None are known: `mtvit evaluate --workdir=RUN` measures kNN, a linear "
      "probe and few labels on images with labels, and exporting again puts "
      "them here."])]


def _limits(
    encoder: "encoder_lib.Encoder", notes: Mapping[str, Sequence[str]],
    story: Story
) -> list[str]:
  """What the model can't do, and what the files leave out."""
  size, images = encoder.image_size, story.data.get("num_examples")
  lines = [
      f"It has seen images of {size} x {size} pixels; other sizes need "
      "resized position embeddings, and were not tried.",
      "Features are no decisions: what is built on them must be tested on the "
      "images that it is for, for errors and for bias."]
  if isinstance(images, int) and images < 100_000:
    lines.append(f"{images:,} training images are few: expect features that "
                 "fit images like those, and little beyond.")
  if story.results:
    lines.append("The results are of one training run (one seed).")
  lines += [f"`{file}`: {note}." for file, found in notes.items()
            for note in found]
  return ["## Limits", "\n".join(f"- {line}" for line in lines)]


_quoted = described.literal


def _python(*lines: str) -> str:
  return "```python\n" + "\n".join(lines) + "\n```"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """A Markdown table."""
  line = lambda cells: "| " + " | ".join(map(str, cells)) + " |"
  return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def _number(value: float | None) -> str:
  return "–" if value is None else f"{value:.3f}"


def code(value: Any) -> str:
  """A name that may have any letters, in one line of code."""
  return "`" + re.sub(r"[`\s]+", " ", str(value)) + "`"
