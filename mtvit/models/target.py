"""Which kind of device the program that is traced is for."""

import jax


def device_kind() -> str:
  """As `jax.Device.device_kind` has it, such as "NVIDIA H200" or "cpu"."""
  # A mesh that is only planned for may be of other devices than those here.
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device.device_kind if device else jax.devices()[0].device_kind


def is_nvidia() -> bool:
  """Whether it is a GPU of NVIDIA's of the last years."""
  return device_kind().startswith("NVIDIA")


def is_tpu() -> bool:
  """Whether it is a TPU."""
  return device_kind().startswith("TPU")


def splits_heads() -> bool:
  """Whether the heads of attention are on several devices."""
  return jax.sharding.get_abstract_mesh().shape.get("tensor", 1) > 1
