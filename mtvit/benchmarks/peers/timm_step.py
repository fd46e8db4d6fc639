"""A train step of timm's ViT with SimCLR's loss, in torch.

Runs in an environment with torch and timm; speaks `protocol`. Encoder, head,
batch and optimizer have the sizes of ours with the contrastive task alone.
"""

from typing import Any

import operators  # noqa: F401  First: torchvision needs what it does.
import protocol
from timm.models import vision_transformer
import timm
import torch
from torch.utils import flop_counter

MATMUL = 2048       # Side of the matrices of `matmul`.


class Training:
  """A model, its optimizer and one batch of noise."""

  def __init__(self, settings: dict):
    torch.manual_seed(0)
    torch.set_num_threads(protocol.cores())
    self.encoder = vision_transformer.VisionTransformer(
        img_size=settings["image_size"], patch_size=settings["patch_size"],
        embed_dim=settings["width"], depth=settings["depth"],
        num_heads=settings["heads"],
        mlp_ratio=settings["mlp_dim"] / settings["width"], num_classes=0)
    self.head = head(settings)
    self.parameters = [*self.encoder.parameters(), *self.head.parameters()]
    self.optimizer = torch.optim.AdamW(
        self.parameters, lr=1e-3, weight_decay=0.05)
    self.temperature = settings["temperature"]
    size = settings["image_size"]
    # The two views of an image are neighbours.
    self.views = torch.randn(settings["views"], 3, size, size)  # [b, 3, s, s]

  def step(self):
    """One update by NT-Xent (Chen et al. 2020, arXiv:2002.05709)."""
    z = torch.nn.functional.normalize(
        self.head(self.encoder(self.views)), dim=-1)        # [b, d]
    logits = z @ z.T / self.temperature                     # [b, b]
    logits = logits.fill_diagonal_(float("-inf"))           # [b, b]
    partners = torch.arange(len(z)) ^ 1                     # [b]
    loss = torch.nn.functional.cross_entropy(logits, partners)
    self.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
    self.optimizer.step()
    return loss.item()

  def flops(self) -> int:
    """Of the products of a step."""
    attentions = [block.attn for block in self.encoder.blocks]
    fused = [x.fused_attn for x in attentions]
    # The counter doesn't know the fused attention of CPUs.
    for x in attentions:
      x.fused_attn = False
    with flop_counter.FlopCounterMode(display=False) as counter:
      self.step()
    for x, was in zip(attentions, fused):
      x.fused_attn = was
    return counter.get_total_flops()

  def steps(self, count: int) -> int:
    """Makes so many."""
    for _ in range(count):
      self.step()
    return count


def head(settings: dict) -> torch.nn.Sequential:
  """Hidden layers with LayerNorm and GELU between, and a linear one."""
  layers, width = [], settings["width"]
  for _ in range(settings["num_hidden"]):
    layers += [torch.nn.Linear(width, settings["hidden_dim"]),
               torch.nn.LayerNorm(settings["hidden_dim"]), torch.nn.GELU()]
    width = settings["hidden_dim"]
  return torch.nn.Sequential(
      *layers, torch.nn.Linear(width, settings["out_dim"]))


def matmul() -> protocol.Repetition:
  """A repetition of large float32 products, counted in FLOPs."""
  x, y = (torch.randn(MATMUL, MATMUL) for _ in range(2))    # [m, m]

  def work(count=2):
    for _ in range(count):
      torch.matmul(x, y)
    return count * 2 * MATMUL**3
  return lambda: protocol.timed(work, first=lambda: work(1))


def start(
    settings: dict
) -> tuple[dict[str, Any], dict[str, protocol.Repetition]]:
  """Builds and warms up a train step; see `protocol.serve`."""
  training = Training(settings)
  training.steps(2)
  versions = {"timm": timm.__version__, "torch": torch.__version__}
  told = {"versions": versions, "flops": training.flops()}
  return told, {
      "step": lambda: protocol.timed(
          lambda: training.steps(settings["steps"]),
          lambda: training.steps(2)),
      "matmul": matmul()}


if __name__ == "__main__":
  protocol.serve(start)
