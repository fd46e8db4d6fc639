"""What tasks cost: alone, in one forward pass, and in a pass for each."""

from typing import Any, Callable, Mapping, NamedTuple, Sequence

from mtvit.benchmarks import processes
from mtvit.benchmarks import show

ALONE = "contrastive"
SHARED, SEPARATE = "patch_level", "separate"
# In which they are added; the first three are the report's.
ORDER = ("contrastive", "colorize", "relative_position", "inpaint", "rotation",
         "jigsaw", "clustering")

# Strategy, tasks whose mode is off -> a config as plain values.
Variant = Callable[[str, list[str]], Mapping[str, Any]]


class Work(NamedTuple):
  """What is measured.

  Attributes:
    configs: contestant's name -> config as plain values.
    steps: of a repetition; None for what the device needs.
    batches: of a repetition of the input pipeline.
  """
  configs: Mapping[str, Mapping[str, Any]]
  steps: int | None
  batches: int


def name_of(strategy: str, count: int) -> str:
  """Of a contestant with the first so many tasks."""
  return f"{strategy}, {count} tasks"


def configs(
    variant: Variant, counts: Sequence[int]
) -> dict[str, Mapping[str, Any]]:
  """Contestants: contrastive alone, the report's, and so many tasks."""
  found = {ALONE: variant(ALONE, []), "report, 3 tasks": variant("report", [])}
  for strategy in (SHARED, SEPARATE):
    for count in counts:
      found[name_of(strategy, count)] = variant(strategy, list(ORDER[count:]))
  return found


def specs(work: Work) -> list[processes.Spec]:
  """The contestants."""
  return [
      processes.ours(name, "step_process", {
          "config": config, "steps": work.steps, "batches": work.batches},
          ["step", "input"], platforms=None)
      for name, config in work.configs.items()]


def report(
    work: Work, measured: processes.Measured,
    ready: Mapping[str, Mapping[str, Any]]
) -> str:
  """The table and the two ratios that matter, in Markdown; see `step`."""
  rate = {name: show.rates(x["step"]) for name, x in measured.items()}
  rows = []
  for name, found in measured.items():
    told = ready[name]
    images = work.configs[name]["batch_size"]
    spent = show.spread(show.cpu_milliseconds(found["input"]))
    rows.append([
        name, f"{1e3 / show.spread(rate[name]).median:,.0f}",
        show.ratio(rate[ALONE], rate[name]).text(2),
        f"{told['flops'] / 1e9:,.1f}",
        f"{told['flops'] / ready[ALONE]['flops']:.2f}",
        f"{told['memory_bytes'] / 1e6:,.0f}", show.memory(found["step"]),
        f"{spent.median * images:,.0f}",
        show.spread(show.rates(found["input"])).text()])
  text = show.table(
      ["", "ms a step", "against contrastive", "GFLOPs", "against it",
       "step's memory, MB", "peak RSS, MB", "input: CPU ms a batch",
       "input: images/s"], rows)
  return "\n".join([text, "", *_ratios(rate)])


def _ratios(rate: Mapping[str, list[float]]) -> list[str]:
  """All tasks in one pass against one task; a pass for each against one."""
  most = [x for x in rate if x.startswith(SHARED)][-1]
  lines = [f"- A step of {most} takes "
           f"{show.ratio(rate[ALONE], rate[most]).text(2)} times that of "
           f"{ALONE} alone."]
  one, each = name_of(SHARED, 3), name_of(SEPARATE, 3)
  if one in rate:
    lines.append(
        f"- A step of {each} takes "
        f"{show.ratio(rate[one], rate[each]).text(2)} times that of {one}.")
  return lines
