"""Chips, and the links of a slice."""

import pytest

from mtvit import errors
from mtvit.planning import chips


@pytest.mark.parametrize("name, megahertz", [
    ("v4", 1050), ("v5e", 1500), ("v5p", 1750), ("v6e", 1750)])
def test_clocks_are_what_is_published(name, megahertz):
  # TPU v4: arXiv:2304.01433, table 4; the others from the peak.
  assert chips.CHIPS[name].clock / 1e6 == pytest.approx(megahertz, rel=0.003)


@pytest.mark.parametrize("name, gigabytes", [
    ("v5e:1x1", 0), ("v5e:2x4", 100), ("v5e:8x16", 150), ("v5e:16x16", 200),
    ("v5p:2x2x1", 200), ("v5p:4x4x2", 300), ("v5p:8x8x16", 600),
    ("v4:4x4x4", 300), ("v6e:4x8", 200)])
def test_links_of_a_chip_at_an_edge(name, gigabytes):
  found = chips.parse(name)
  assert found.name == name
  assert found.ici_bandwidth == gigabytes * 1e9


@pytest.mark.parametrize("name, said", [
    ("v5:2x4", "did you mean v5"), ("tpu:2x2", "v5e, v5p"), ("v5e", "v5e:2x4"),
    ("v5e:8", "ROWSxCOLUMNS"), ("v5e:2x2x2", "ROWSxCOLUMNS"),
    ("v5p:8x8", "XxYxZ"), ("v5e:0x4", "v5e:16x16"), ("v5e:2x4 ", "v5e:4x8")])
def test_other_names_are_refused(name, said):
  with pytest.raises(errors.ConfigError) as e:
    chips.parse(name)
  assert said in str(e.value) and len(str(e.value).splitlines()) <= 4
