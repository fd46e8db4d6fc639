"""NVIDIA GPUs in one table: their peaks, and what XLA must know to compile."""

import dataclasses
import re

from mtvit import errors
from mtvit.planning import chips

# Names as JAX and torch have them, by regular expression; the first that
# matches counts -> dense bfloat16 FLOP/s that add up in float32 (data sheets
# print twice as much, "with sparsity"). Those of RTX cards are in NVIDIA's
# papers on their architectures, those of TPUs in `chips`.
PEAKS = (
    (r"GB200", 2500e12),
    (r"B200", 2250e12),
    (r"H200 NVL|H100 NVL", 835.5e12),
    (r"H100 PCIe", 756e12),
    (r"H100|H200|GH200", 989.5e12),
    (r"A100", 312e12),
    (r"L40S", 362e12),
    (r"L4$", 121e12),
    (r"A10$", 125e12),
    (r"RTX A6000", 154.8e12),
    (r"RTX 5090$", 209.5e12),
    (r"RTX 4090$", 165.2e12),
    (r"RTX 3090$", 71e12),
    *((rf"^{kind}$", chips.CHIPS[name].peak)
      for kind, name in (("TPU v4", "v4"), ("TPU v5 lite", "v5e"),
                         ("TPU v5p?", "v5p"), ("TPU v6 lite", "v6e"))),
)


def peak(kind: str) -> float | None:
  """Dense bfloat16 FLOP/s of a device; None if it is in no table.

  Args:
    kind: JAX's `device_kind`, or torch's name of a device.
  """
  return next((
      value for pattern, value in PEAKS if re.search(pattern, kind)), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
  """One GPU, as XLA wants it described: see its target_config/specs.

  Attributes:
    name: of `plan --topology`.
    kind: as the driver names it.
    hbm_bytes: size of the main memory.
    hbm_bandwidth: bytes a second.
    cores: streaming multiprocessors.
    fpus: float32 units of each.
    shared: bytes of shared memory of each, and of what a block may have.
    l2: bytes.
    clock: GHz.
    capability: major version.
  """
  name: str
  kind: str
  hbm_bytes: int
  hbm_bandwidth: int
  cores: int
  fpus: int
  shared: tuple[int, int]
  l2: int
  clock: float
  capability: int

  @property
  def peak(self) -> float:
    """Dense bfloat16 FLOP/s."""
    found = peak(self.kind)
    assert found is not None
    return found

  @property
  def target(self) -> str:
    """A GpuTargetConfigProto, as text."""
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {self.shared[0]}
  shared_memory_per_block_optin: {self.shared[1]}
  threads_per_core_limit: 2048
  core_count: {self.cores}
  fpus_per_core: {self.fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {self.hbm_bandwidth}
  l2_cache_size: {self.l2}
  clock_rate_ghz: {self.clock}
  device_memory_size: {self.hbm_bytes}
  cuda_compute_capability {{ major: {self.capability} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{self.kind}"
"""


_HOPPER = dict(cores=132, fpus=128, shared=(233472, 232448), l2=52428800,
               clock=1.98, capability=9)
GPUS = {gpu.name: gpu for gpu in (
    Gpu(name="a100", kind="NVIDIA A100-SXM4-80GB", hbm_bytes=85100068864,
        hbm_bandwidth=2039040000000, cores=108, fpus=64,
        shared=(167936, 166912), l2=41943040, clock=1.41, capability=8),
    Gpu(name="h100", kind="NVIDIA H100 80GB HBM3", hbm_bytes=84942979072,
        hbm_bandwidth=3352320000000, **_HOPPER),                 # type: ignore
    Gpu(name="h200", kind="NVIDIA H200", hbm_bytes=151397597184,
        hbm_bandwidth=4800000000000, **_HOPPER),                 # type: ignore
)}


@dataclasses.dataclass(frozen=True)
class Node:
  """GPUs of one machine.

  Attributes:
    chip: all of them.
    count: of them.
  """
  chip: Gpu
  count: int

  @property
  def name(self) -> str:
    """Such as "h100:8"."""
    return self.chip.name + (f":{self.count}" if self.count > 1 else "")


def parse(name: str) -> Node | None:
  """The GPUs of a name such as "h100" or "h100:8"; None if it names no GPU.

  Raises:
    ConfigError: one machine has no such number of them.
  """
  kind, _, count = name.partition(":")
  if kind not in GPUS:
    return None
  if not re.fullmatch("[1-8]?", count):
    raise errors.ConfigError(
        f"--topology={name}: a machine has 1 to 8 GPUs",
        f"--topology={kind} or --topology={kind}:8")
  return Node(GPUS[kind], int(count or 1))
