"""Sums over modules written by hand; the compiler's own text is elsewhere."""

import pytest

from mtvit.planning import hlo
from mtvit.planning import totals

SIZE = 4 * 8 * 4                                # Bytes of f32[4,8].
CYCLES = 'backend_config={"window_config":{"estimated_cycles":"%d"}}'


def entry(*lines, before=""):
  body = "\n  ".join(lines)
  return f"""HloModule jit_f, is_scheduled=true

{before}
%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

ENTRY %main.1_spmd (x: f32[4,8], y: f32[8,16]) -> f32[4,16] {{
  %x = f32[4,8]{{1,0:T(8,128)}} parameter(0)
  %y = f32[8,16]{{1,0:T(8,128)}} parameter(1)
  {body}
}}
"""


def test_a_line_is_read_whole():
  module = hlo.parse(entry(
      "ROOT %f = (bf16[4,16]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/pred[3]{0}) "
      'fusion(%x, f32[8,16] %y), kind=kOutput, calls=%add, metadata={op_name="('
      '"}, ' + CYCLES % 7))
  found = module.computations["main.1_spmd"]["f"]
  assert module.entry == "main.1_spmd"
  assert found.opcode == "fusion" and found.is_root and found.cycles == 7
  assert found.operands == ("x", "y")
  assert found.called == {"calls": ("add",)}
  assert found.arrays == (
      hlo.Array((4, 16), 16, False), hlo.Array((3,), 8, True))
  assert [a.bytes for a in found.arrays] == [128, 3]


def test_text_without_a_module_is_refused():
  with pytest.raises(ValueError, match="ENTRY"):
    hlo.parse("nothing")


DOT = ("%d = f32[4,16]{1,0} dot(%x, %y), lhs_contracting_dims={1}, "
       "rhs_contracting_dims={0}")


def test_a_product_counts_two_for_each_multiplication():
  assert totals.of(entry(DOT), 1).flops == 2 * 4 * 8 * 16


@pytest.mark.parametrize("window, made, products", [
    ("size=1", 5, 5 * 1),
    ("size=3 pad=1_1", 5, 3 * 5 - 2),      # The ends meet two inputs each.
    ("size=3 stride=2", 2, 2 * 3),
    # A batched product as the TPU compiler writes it: one input in each place.
    ("size=5 stride=4 pad=4_4 lhs_dilate=5 rhs_reversal=1", 5, 5)])
def test_a_convolution_counts_what_meets_an_input(window, made, products):
  size = int(window[5])
  text = entry(
      "%l = f32[5,2,7]{2,1,0} parameter(2)",
      f"%k = f32[{size},7,11]{{2,1,0}} parameter(3)",
      f"%c = f32[{made},2,11]{{2,1,0}} convolution(%l, %k), "
      f"window={{{window}}}, dim_labels=0bf_0io->0bf")
  assert totals.of(text, 1).flops == 2 * products * 2 * 7 * 11


def loop(name, body):
  """A loop that counts to six."""
  return f"""
%{name}.condition (p: (s32[], f32[4,8])) -> pred[] {{
  %p = (s32[], f32[4,8]) parameter(0)
  %i = s32[]{{:S(6)}} get-tuple-element(%p), index=0
  %six = s32[]{{:S(6)}} constant(6)
  ROOT %less = pred[]{{:S(6)}} compare(%i, %six), direction=LT
}}

%{name}.body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {{
  %p = (s32[], f32[4,8]) parameter(0)
  %i = s32[]{{:S(6)}} get-tuple-element(%p), index=0
  %x = f32[4,8] get-tuple-element(%p), index=1
  %one = s32[]{{:S(6)}} constant(1)
  %next = s32[]{{:S(6)}} add(%i, %one)
  {body}
  ROOT %t = (s32[], f32[4,8]) tuple(%next, %x)
}}
"""


WHILE = ("%zero = s32[] constant(0)", "%t = (s32[], f32[4,8]) tuple(%zero, %x)")
KERNEL = "%k = f32[4,8]{1,0} add(%x, %x), " + CYCLES % 100


def run(name, attributes=""):
  return (f"%{name}.w = (s32[], f32[4,8]) while(%t), condition="
          f"%{name}.condition, body=%{name}.body{attributes}")


def test_a_loop_counts_as_often_as_it_runs():
  text = entry(*WHILE, run("l"), before=loop("l", KERNEL))
  found = totals.of(text, 1)
  assert found.cycles == 600 and found.unknown_loops == 0
  assert found.hbm_bytes == 6 * 3 * SIZE        # Two operands, one result.


def test_a_loop_that_starts_later_runs_less_often():
  text = entry("%zero = s32[] constant(2)", WHILE[1], run("l"),
               before=loop("l", KERNEL))
  assert totals.of(text, 1).cycles == 400


def test_the_compiler_may_say_how_often():
  known = ', backend_config={"known_trip_count":{"n":"9"}}'
  text = entry(*WHILE, run("l", known), before=loop("l", KERNEL))
  assert totals.of(text, 1).cycles == 900


def test_loops_in_loops_multiply():
  inside = "\n  ".join([*WHILE, run("l").replace("%t =", "%t2 =")]).replace(
      "%t", "%u")
  text = entry(*WHILE, run("o"),
               before=loop("l", KERNEL) + loop("o", inside))
  assert totals.of(text, 1).cycles == 3600


def test_a_loop_of_unknown_length_counts_once_and_is_told():
  text = entry("%zero = s32[] parameter(4)", WHILE[1], run("l"),
               before=loop("l", KERNEL))
  found = totals.of(text, 1)
  assert found.cycles == 100 and found.unknown_loops == 1


def test_what_is_inside_a_kernel_is_the_kernels():
  product = DOT.replace("%x", "%p").replace("%y", "%q")
  fused = f"""%fused (p: f32[4,8], q: f32[8,16]) -> f32[4,16] {{
  %q = f32[8,16] parameter(1)
  %p = f32[4,8] parameter(0)
  ROOT {product}, {CYCLES % 5}
}}
"""
  found = totals.of(entry(
      "%f = f32[4,16]{1,0:S(1)} fusion(%x, %y), kind=kOutput, calls=%fused, "
      + CYCLES % 7, before=fused), 1)
  assert found.cycles == 7
  assert found.flops == 2 * 4 * 8 * 16
  # The result stays on the chip.
  assert found.hbm_bytes == 4 * (4 * 8 + 8 * 16)


@pytest.mark.parametrize("sliced, line", [
    ("%p", ""), ("%b", "  %b = f32[4,8] bitcast(%p)\n")])
def test_a_kernel_that_reads_a_slice_reads_no_more(sliced, line):
  fused = f"""%fused (p: f32[4,8], i: s32[]) -> f32[1,8] {{
  %i = s32[] parameter(1)
  %p = f32[4,8] parameter(0)
{line}  ROOT %s = f32[1,8] dynamic-slice({sliced}, %i, %i), \
dynamic_slice_sizes={{1,8}}
}}
"""
  found = totals.of(entry(
      "%n = s32[]{:S(6)} constant(1)",
      "%f = f32[1,8] fusion(%x, %n), kind=kLoop, calls=%fused",
      before=fused), 1)
  assert found.hbm_bytes == 2 * 8 * 4


@pytest.mark.parametrize("target, size", [
    ("__cublas$lt$matmul", 3 * SIZE), ("AllocateBuffer", 0)])
def test_products_of_a_gpus_libraries_read_and_write(target, size):
  found = totals.of(entry(
      "%c = (f32[4,8]{1,0}, s8[999]{0}) custom-call(%x, %x), "
      f'custom_call_target="{target}"'), 1)
  assert found.hbm_bytes == size


def test_a_kernel_that_updates_in_place_writes_no_more():
  fused = """%fused (p: f32[4,8], u: f32[1,8], i: s32[]) -> f32[4,8] {
  %p = f32[4,8] parameter(0)
  %u = f32[1,8] parameter(1)
  %i = s32[] parameter(2)
  ROOT %s = f32[4,8] dynamic-update-slice(%p, %u, %i, %i)
}
"""
  found = totals.of(entry(
      "%n = s32[]{:S(6)} constant(1)", "%u = f32[1,8]{1,0} parameter(2)",
      "%f = f32[4,8] fusion(%x, %u, %n), kind=kLoop, calls=%fused",
      before=fused), 1)
  assert found.hbm_bytes == 2 * 8 * 4


def test_the_costlier_branch_counts():
  branch = lambda name, cycles: (
      f"%{name} (p: f32[4,8]) -> f32[4,8] {{\n  %p = f32[4,8] parameter(0)\n"
      f"  ROOT %k = f32[4,8] negate(%p), {CYCLES % cycles}\n}}\n")
  found = totals.of(entry(
      "%n = s32[] constant(1)",
      "%c = f32[4,8] conditional(%n, %x, %x), "
      "branch_computations={%some, %many}",
      before=branch("some", 3) + branch("many", 50)), 1)
  assert found.cycles == 50


def collective(line):
  return totals.of(entry(line), 8)


@pytest.mark.parametrize("line, kind, sent", [
    ("all-reduce(%x), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add",
     "all-reduce", 2 * 3 / 4 * SIZE),
    ("all-reduce(%x), replica_groups={}, to_apply=%add",
     "all-reduce", 2 * 7 / 8 * SIZE),
    ("all-gather(%x), replica_groups=[2,4]<=[8], dimensions={0}",
     "all-gather", 3 * SIZE),                     # Three quarters of the whole.
    ("reduce-scatter(%x), replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add",
     "reduce-scatter", SIZE / 2),
    ("all-to-all(%x), replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}",
     "all-to-all", SIZE * 3 / 4),
    ("all-gather(%x), replica_groups=mesh['a'=2,'b'=4], "
     "device_ids=([2,4]T(1,0)) {'a','b'}, dimensions={0}",
     "all-gather", 7 * SIZE),
    ("all-gather(%x), replica_groups=mesh['a'=8] {'a':(2)4}, dimensions={0}",
     "all-gather", 3 * SIZE),
    ("collective-permute(%x), source_target_pairs={{0,1},{1,0}}",
     "collective-permute", SIZE)])
def test_a_ring_sends(line, kind, sent):
  found = collective("%c = f32[4,8] " + line)
  assert dict(found.blocking) == {kind: sent}
  assert found.collectives == {kind: sent} and not found.overlapped


def test_what_starts_and_ends_is_overlapped_and_counts_once():
  found = totals.of(entry(
      "%s = (f32[4,8], f32[16,8]) all-gather-start(%x), "
      "replica_groups=[2,4]<=[8], dimensions={0}",
      "%e = f32[16,8]{1,0} all-gather-done(%s)"), 8)
  assert dict(found.overlapped) == {"all-gather": 3 * SIZE}
  assert not found.blocking


def test_an_all_reduce_of_which_a_part_is_kept_is_a_reduce_scatter():
  fused = """%all-reduce-scatter.1 (p: f32[4,8]) -> f32[1,8] {
  %p = f32[4,8] parameter(0)
  %r = f32[4,8] all-reduce(%p), replica_groups={{0,1,2,3}}, to_apply=%add
  %i = s32[] constant(0)
  ROOT %s = f32[1,8] dynamic-slice(%r, %i, %i), dynamic_slice_sizes={1,8}
}
"""
  found = totals.of(entry(
      "%f = f32[1,8] fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1",
      before=fused), 8)
  assert dict(found.blocking) == {"reduce-scatter": SIZE * 3 / 4}


def test_a_collective_spread_over_kernels_counts_once():
  part = lambda name, root: f"""%{name} (p: f32[4,8]) -> f32[16,8] {{
  %p = f32[4,8] parameter(0)
  %g = f32[16,8] all-gather(%p), replica_groups=[2,4]<=[8], dimensions={{0}}, \
backend_config={{"async_collective_fusion_config":{{"flag_start":"1"}}}}
  ROOT %r = f32[16,8] custom-call(%g), custom_call_target="{root}"
}}
"""
  found = totals.of(entry(
      "%f = f32[16,8] fusion(%x), kind=kCustom, calls=%one",
      "%g = f32[16,8] fusion(%x), kind=kCustom, calls=%two",
      before=part("one", "AsyncCollectiveStart") + part(
          "two", "AsyncCollectiveDone")), 8)
  assert dict(found.overlapped) == {"all-gather": 3 * SIZE}
  assert not found.blocking


def test_collectives_in_a_loop_count_as_often_as_it_runs():
  reduce = ("%r = f32[4,8] all-reduce(%x), replica_groups={{0,1}}, "
            "to_apply=%add")
  text = entry(*WHILE, run("l"), before=loop("l", reduce))
  assert totals.of(text, 8).collectives == {"all-reduce": 6 * SIZE}
