"""What a compiled program does, weighed: texts as XLA writes them, against counts by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lra_bench.estimates.hlo import Loop, Weight, weigh
from lra_bench.estimates.hlo_arrays import far, size

GPU = """\
HloModule jit_step, is_scheduled=true

%fused_slice (param_0.1: f32[64,8,128], param_1.2: s32[]) -> f32[8,128] {
  %param_0.1 = f32[64,8,128]{2,1,0} parameter(0)
  %param_1.2 = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %slice.1 = f32[1,8,128]{2,1,0} dynamic-slice(%param_0.1, %param_1.2, %zero.1, %zero.1), dynamic_slice_sizes={1,8,128}
  ROOT %bitcast.1 = f32[8,128]{1,0} bitcast(%slice.1)
}

%fused_update (param_0.3: f32[64,8,128], param_1.4: f32[1,8,128], param_2.5: s32[]) -> f32[64,8,128] {
  %param_0.3 = f32[64,8,128]{2,1,0} parameter(0)
  %param_1.4 = f32[1,8,128]{2,1,0} parameter(1)
  %param_2.5 = s32[] parameter(2)
  %zero.2 = s32[] constant(0)
  ROOT %update.1 = f32[64,8,128]{2,1,0} dynamic-update-slice(%param_0.3, %param_1.4, %param_2.5, %zero.2, %zero.2)
}

%body (state: (s32[], f32[64,8,128])) -> (s32[], f32[64,8,128]) {
  %state = (s32[], f32[64,8,128]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %all = f32[64,8,128]{2,1,0} get-tuple-element(%state), index=1
  %one = f32[8,128]{1,0} fusion(%all, %i), kind=kLoop, calls=%fused_slice, metadata={op_name="jit(step)/while/body"}
  %row = f32[1,8,128]{2,1,0} bitcast(%one)
  %whole = f32[64,8,128]{2,1,0} fusion(%all, %row, %i), kind=kLoop, calls=%fused_update
  ROOT %next = (s32[], f32[64,8,128]{2,1,0}) tuple(%i, %whole)
}

%cond (state.1: (s32[], f32[64,8,128])) -> pred[] {
  %state.1 = (s32[], f32[64,8,128]{2,1,0}) parameter(0)
  ROOT %more = pred[] constant(true)
}

ENTRY %main (x: f32[64,8,128], y: bf16[128,4]) -> f32[64,8,128] {
  %x = f32[64,8,128]{2,1,0} parameter(0)
  %y = bf16[128,4]{1,0} parameter(1)
  %n = s32[] constant(0)
  %start = (s32[], f32[64,8,128]{2,1,0}) tuple(%n, /*index=1*/%x)
  %loop = (s32[], f32[64,8,128]{2,1,0}) while(%start), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"64"}}
  %again = (s32[], f32[64,8,128]{2,1,0}) while(%loop), condition=%cond, body=%body
  %gemm = (f32[512,4]{1,0}, s8[16]{0}) custom-call(%x, %y), custom_call_target="__cublas$gemm"
  ROOT %out = f32[64,8,128]{2,1,0} get-tuple-element(%again), index=1
}
"""  # noqa: E501 - as XLA writes it
ROW, WHOLE = 8 * 128 * 4, 64 * 8 * 128 * 4


def test_kernels_in_a_loop_count_as_often_as_it_runs() -> None:
    assert weigh(GPU).launches == 64 * 2 + 1 * 2 + 1
    assert weigh(GPU).loops == (Loop(64, 2), Loop(None, 2))


def test_a_slice_moves_what_it_slices_and_a_change_in_place_what_it_changes() -> None:
    """Beside the loops' four kernels of a row each way: the place, 4 bytes, and the product with its second result."""
    a_pass = (ROW + 4 + ROW) + (ROW + 4 + ROW)
    product = WHOLE + 128 * 4 * 2 + 512 * 4 * 4 + 16
    assert weigh(GPU).bytes == 65 * a_pass + product


def test_a_fused_kernel_reads_of_an_operand_the_slices_that_it_takes() -> None:
    """Two quarters of x, one by another view of it; all of y, which is added too; and z once, in two pieces."""
    text = """\
%fused_slices (p: f32[8,512], q: f32[8,128], r: f32[8,128]) -> (f32[8,128], f32[8,64], f32[8,128], f32[8,128]) {
  %p = f32[8,512]{1,0} parameter(0)
  %q = f32[8,128]{1,0} parameter(1)
  %r = f32[8,128]{1,0} parameter(2)
  %first = f32[8,128]{1,0} slice(%p), slice={[0:8], [0:128]}
  %view = f32[1,8,512]{2,1,0} bitcast(%p)
  %second = f32[1,8,128]{2,1,0} slice(%view), slice={[0:1], [0:8], [256:384]}
  %row = f32[8,128]{1,0} bitcast(%second)
  %sum = f32[8,128]{1,0} add(%first, %row)
  %all = f32[8,128]{1,0} add(%sum, %q)
  %half = f32[8,64]{1,0} slice(%q), slice={[0:8], [0:64]}
  %a = f32[8,120]{1,0} slice(%r), slice={[0:8], [0:120]}
  %b = f32[8,120]{1,0} slice(%r), slice={[0:8], [4:124]}
  ROOT %out = (f32[8,128]{1,0}, f32[8,64]{1,0}, f32[8,120]{1,0}, f32[8,120]{1,0}) tuple(%all, %half, %a, %b)
}

ENTRY %main (x: f32[8,512], y: f32[8,128], z: f32[8,128]) -> f32[8,128] {
  %x = f32[8,512]{1,0} parameter(0)
  %y = f32[8,128]{1,0} parameter(1)
  %z = f32[8,128]{1,0} parameter(2)
  %cut = f32[8,64]{1,0} slice(%y), slice={[0:8], [0:64]}
  ROOT %made = (f32[8,128]{1,0}, f32[8,64]{1,0}, f32[8,120]{1,0}, f32[8,120]{1,0}) fusion(%x, %y, %z), kind=kLoop, calls=%fused_slices
}
"""  # noqa: E501 - as XLA writes it
    read, made = 4 * 8 * (2 * 128 + 128 + 128), 4 * 8 * (128 + 64 + 120 + 120)
    assert weigh(text) == Weight(2, read + made + 2 * 4 * 8 * 64)


def test_what_a_tpu_keeps_on_the_chip_moves_no_bytes() -> None:
    """An array is brought whole, another in two pieces, a third is made there and taken back; two kernels use them."""
    text = """\
ENTRY %main.1 (x: f32[32,4096], y: f32[16,4096]) -> f32[32,4096] {
  %x = f32[32,4096]{1,0:T(8,128)} parameter(0)
  %y = f32[16,4096]{1,0:T(8,128)} parameter(1)
  %begin = (f32[32,4096]{1,0:T(8,128)S(1)}, f32[32,4096]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  %near = f32[32,4096]{1,0:T(8,128)S(1)} copy-done(%begin)
  %top = ((f32[16,4096]{1,0:T(8,128)}), f32[8,4096]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%y), slice={[0:8], [0:4096]}
  %low = ((f32[16,4096]{1,0:T(8,128)}), f32[8,4096]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%y), slice={[8:16], [0:4096]}
  %first = f32[8,4096]{1,0:T(8,128)S(1)} slice-done(%top)
  %second = f32[8,4096]{1,0:T(8,128)S(1)} slice-done(%low)
  %joined = f32[16,4096]{1,0:T(8,128)S(1)} custom-call(%first, %second), custom_call_target="ConcatBitcast"
  %room = f32[32,4096]{1,0:T(8,128)} custom-call(), custom_call_target="AllocateBuffer"
  %made = f32[32,4096]{1,0:T(8,128)S(1)} negate(%near)
  %more = f32[32,4096]{1,0:T(8,128)S(1)} add(%made, %joined)
  %back = (f32[32,4096]{1,0:T(8,128)}, f32[32,4096]{1,0:T(8,128)S(1)}, u32[]{:S(2)}) copy-start(%more)
  ROOT %out = f32[32,4096]{1,0:T(8,128)} copy-done(%back)
}
"""  # noqa: E501 - as XLA writes it
    whole = 32 * 4096 * 4
    assert weigh(text) == Weight(2, whole + 2 * (whole // 4) + whole)


def test_what_a_tpu_copies_within_its_memory_is_read_and_written() -> None:
    text = """\
ENTRY %main.1 (x: f32[128,4096]) -> f32[128,4096] {
  %x = f32[128,4096]{1,0:T(8,128)} parameter(0)
  %begin = (f32[128,4096]{0,1:T(8,128)}, f32[128,4096]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  ROOT %out = f32[128,4096]{0,1:T(8,128)} copy-done(%begin)
}
"""
    assert weigh(text) == Weight(0, 2 * 128 * 4096 * 4)


def test_a_slice_from_a_place_that_changes_is_carried_alone() -> None:
    """XLA's text has the places among the operands."""
    text = """\
ENTRY %main.1 (x: f32[256,8,128], i: s32[]) -> f32[1,8,128] {
  %x = f32[256,8,128]{2,1,0:T(8,128)} parameter(0)
  %i = s32[] parameter(1)
  %go = ((f32[256,8,128]{2,1,0:T(8,128)}, s32[], s32[], s32[]), f32[1,8,128]{2,1,0:T(8,128)S(1)}, u32[]{:S(2)}) dynamic-slice-start(%x, %i, %i, %i), dynamic_slice_sizes={1,8,128}
  ROOT %out = f32[1,8,128]{2,1,0:T(8,128)S(1)} dynamic-slice-done(%go)
}
"""  # noqa: E501 - as XLA writes it
    assert weigh(text) == Weight(0, 8 * 128 * 4)


def test_a_slice_in_a_fusion_within_a_fusion_is_what_is_read() -> None:
    text = """\
%inner (p: f32[64,128]) -> f32[8,128] {
  %p = f32[64,128]{1,0} parameter(0)
  ROOT %part = f32[8,128]{1,0} slice(%p), slice={[0:8], [0:128]}
}

%outer (q: f32[64,128]) -> f32[8,128] {
  %q = f32[64,128]{1,0} parameter(0)
  %some = f32[8,128]{1,0} fusion(%q), kind=kLoop, calls=%inner
  ROOT %made = f32[8,128]{1,0} negate(%some)
}

ENTRY %main (x: f32[64,128]) -> f32[8,128] {
  %x = f32[64,128]{1,0} parameter(0)
  ROOT %out = f32[8,128]{1,0} fusion(%x), kind=kLoop, calls=%outer
}
"""
    assert weigh(text) == Weight(1, 2 * 8 * 128 * 4)


def test_an_array_takes_the_padding_of_its_tiles() -> None:
    """Of its innermost axes, which the layout names first; what has no tiles has no padding."""
    assert size("f32[4,6,32]{2,1,0:T(8,128)}") == 4 * 8 * 128 * 4
    assert size("f32[4,6,32]{0,2,1:T(8,128)}") == 128 * 6 * 32 * 4
    assert size("bf16[4,6,32]{2,1,0:T(8,128)(2,1)}") == 4 * 8 * 128 * 2
    assert size("f32[4,6,32]{2,1,0}") == size("f32[4,6,32]") == 4 * 6 * 32 * 4
    assert size("(f32[]{:T(128)}, f32[5]{0:T(128)S(1)})") == 4 + 128 * 4
    assert far("(f32[]{:T(128)}, f32[5]{0:T(128)S(1)})") == 4


def test_a_loop_runs_as_often_as_its_condition_says_where_the_compiler_does_not() -> None:
    """As a TPU's texts have it."""
    counting = GPU.replace(
        "  ROOT %more = pred[] constant(true)",
        "  %last = s32[]{:T(128)} constant(9)\n  %at = s32[] get-tuple-element(%state.1), index=0\n"
        '  ROOT %more = pred[]{:T(512)} compare(%at, %last), direction=LT, metadata={op_name="jit(step)/lt"}',
    )
    assert weigh(counting).loops == (Loop(64, 2), Loop(9, 2))
    assert weigh(counting).launches == 64 * 2 + 9 * 2 + 1
    turned = counting.replace("compare(%at, %last), direction=LT", "compare(%last, %at), direction=GT")
    assert weigh(turned) == weigh(counting)
    for other in (("direction=LT", "direction=NE"), ("%last = s32", "%last = f32"), ("constant(9)", "parameter(0)")):
        assert weigh(counting.replace(*other)).loops[1] == Loop(None, 2)


def test_a_kernel_whose_description_takes_several_lines_ends_no_computation() -> None:
    """As JAX's splash attention writes it: a line of its begins with the brackets that close it."""
    text = """\
ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0} parameter(0)
  %one = f32[8,128]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 512}"
}}, metadata={op_name="jit(loss)/pallas_call"}
  ROOT %two = f32[8,128]{1,0} negate(%one)
}
"""
    assert weigh(text) == Weight(2, 4 * 8 * 128 * 4)


def test_what_is_called_counts_in_its_place_and_of_branches_the_one_with_most_kernels() -> None:
    text = """\
%few (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  ROOT %b = f32[4]{0} negate(%a)
}

%many (c: f32[4]) -> f32[4] {
  %c = f32[4]{0} parameter(0)
  %d = f32[4]{0} negate(%c)
  ROOT %e = f32[4]{0} negate(%d)
}

ENTRY %main (p: s32[], x: f32[4]) -> f32[4] {
  %p = s32[] parameter(0)
  %x = f32[4]{0} parameter(1)
  %y = f32[4]{0} call(%x), to_apply=%few
  ROOT %z = f32[4]{0} conditional(%p, %y, %y), branch_computations={%few, %many}
}
"""
    assert weigh(text) == Weight(1 + 2, 3 * 32)
    wide = text.replace("%few (a: f32[4])", "%few (a: f32[4000])").replace("%a = f32[4]", "%a = f32[4000]")
    wide = wide.replace("%b = f32[4]", "%b = f32[4000]")
    assert weigh(wide) == Weight(1 + 2, 2 * 32_000), "of the other branch, what it moves"


def test_a_program_that_was_compiled_here_is_read() -> None:
    """A CPU's text has the same grammar: three products in a loop of seven."""

    def run(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 7, lambda _, x: jnp.tanh(x @ x), x)

    found = weigh(jax.jit(run).lower(jnp.ones((64, 64))).compile().as_text() or "")
    assert [loop.trips for loop in found.loops] == [7]
    assert found.launches >= 7
    assert found.bytes >= 7 * 64 * 64 * 4
