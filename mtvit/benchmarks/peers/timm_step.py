"""A train step of timm's ViT with SimCLR's loss, in torch.

Runs in an environment with torch and timm; speaks `protocol`. Encoder, head,
batch, dtype and optimizer have the sizes of ours with the contrastive task
alone. On a GPU, if torch finds one: with torch.compile unless `form` is eager,
torch's flash attention and fused AdamW.
"""

import sys
from typing import Any

import operators  # noqa: F401  First: torchvision needs what it does.
import protocol
from timm.models import vision_transformer
import timm
import torch
from torch.utils import flop_counter

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
# Of `matmul`: side of the matrices, and products.
SIDE, PRODUCTS = (8192, 20) if ON_GPU else (2048, 2)
COUNTED = 32        # Views whose FLOPs are counted.


class Training:
  """A model, its optimizer and one batch of noise."""

  def __init__(self, settings: dict):
    torch.manual_seed(0)
    torch.set_num_threads(protocol.cores())
    self.encoder = vision_transformer.VisionTransformer(
        img_size=settings["image_size"], patch_size=settings["patch_size"],
        embed_dim=settings["width"], depth=settings["depth"],
        num_heads=settings["heads"],
        mlp_ratio=settings["mlp_dim"] / settings["width"],
        num_classes=0).to(DEVICE)
    self.head = head(settings).to(DEVICE)
    self.parameters = [*self.encoder.parameters(), *self.head.parameters()]
    self.optimizer = torch.optim.AdamW(
        self.parameters, lr=1e-3, weight_decay=0.05, fused=ON_GPU or None)
    self.temperature = settings["temperature"]
    self.dtype = getattr(torch, settings["dtype"])
    form = settings["form"] or ("compiled" if ON_GPU else "eager")
    self.loss = torch.compile(self.nt_xent) if form == "compiled" else (
        self.nt_xent)
    size = settings["image_size"]
    # The two views of an image are neighbours.
    self.views = torch.randn(
        settings["views"], 3, size, size, device=DEVICE)    # [b, 3, s, s]

  def nt_xent(self, views: torch.Tensor) -> torch.Tensor:
    """NT-Xent (Chen et al. 2020, arXiv:2002.05709).

    Args:
      views: [b, 3, s, s].
    """
    with torch.autocast(
        DEVICE.type, self.dtype, enabled=self.dtype != torch.float32):
      z = self.head(self.encoder(views))                    # [b, d]
    z = torch.nn.functional.normalize(z.float(), dim=-1)    # [b, d]
    logits = z @ z.T / self.temperature                     # [b, b]
    logits = logits.fill_diagonal_(float("-inf"))           # [b, b]
    partners = torch.arange(len(z), device=z.device) ^ 1    # [b]
    return torch.nn.functional.cross_entropy(logits, partners)

  def step(self) -> torch.Tensor:
    """One update; the loss, which a GPU may not have made yet."""
    loss = self.loss(self.views)
    self.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
    self.optimizer.step()
    return loss.detach()

  def flops(self) -> float:
    """Of the products of a step."""
    attentions = [block.attn for block in self.encoder.blocks]
    fused = [x.fused_attn for x in attentions]
    # The counter doesn't know the fused attention of CPUs. The other one needs
    # memory that a whole batch may not have.
    for x in attentions:
      x.fused_attn = False
    counted = self.views[:COUNTED]                          # [c, 3, s, s]
    with flop_counter.FlopCounterMode(display=False) as counter:
      self.nt_xent(counted).backward()
    self.optimizer.zero_grad()
    for x, was in zip(attentions, fused):
      x.fused_attn = was
    return counter.get_total_flops() * len(self.views) / len(counted)

  def steps(self, count: int) -> int:
    """Makes so many and waits for the last."""
    for _ in range(count):
      loss = self.step()
    loss.item()
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


def matmul(dtype: torch.dtype) -> protocol.Repetition:
  """A repetition of large products, counted in FLOPs; it keeps no memory."""
  def repetition() -> dict[str, float]:
    x, y = (torch.randn(SIDE, SIDE, dtype=dtype, device=DEVICE)
            for _ in range(2))                              # [m, m]

    def work(count=PRODUCTS):
      for _ in range(count):
        made = torch.matmul(x, y)                           # [m, m]
      made[0, 0].item()
      return count * 2 * SIDE**3
    return protocol.timed(work, first=lambda: work(1))
  return repetition


def device() -> dict[str, Any]:
  """What torch computes on, as `step_process.device` tells it."""
  return {"platform": "gpu" if ON_GPU else "cpu", "count": 1,
          "kind": torch.cuda.get_device_name() if ON_GPU else "cpu"}


def device_bytes() -> dict[str, int]:
  """The most that the GPU has held, if there is one."""
  return {"device_bytes": torch.cuda.max_memory_allocated()} if ON_GPU else {}


def start(
    settings: dict
) -> tuple[dict[str, Any], dict[str, protocol.Repetition]]:
  """Builds and warms up a train step; see `protocol.serve`."""
  if settings["require_gpu"] and not ON_GPU:
    sys.exit(f"torch {torch.__version__} finds no GPU here")
  training = Training(settings)
  training.steps(2)
  versions = {"timm": timm.__version__, "torch": torch.__version__}
  told = {
      "versions": versions, "flops": training.flops(), "device": device()}
  steps = settings["steps"] or (
      protocol.enough(training.steps) if ON_GPU else 2)
  # In float32 a CPU's products have always been compared.
  dtype = training.dtype if ON_GPU else torch.float32
  return told, {
      "step": lambda: protocol.timed(
          lambda: training.steps(steps),
          lambda: training.steps(2)) | device_bytes(),
      "matmul": matmul(dtype)}


if __name__ == "__main__":
  protocol.serve(start)
