//! The exception vectors: registers into the frame, one call into safe code, registers back, ERET.
//!
//! While a guest runs, SP_EL2 points to the frame on top of the pCPU's stack. An exit saves the general registers
//! and nothing else, and a hypercall those that Rust does not keep by itself. EL2's own exceptions go to a stack of their own,
//! since theirs may be what broke.

use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};

use kernel_core::context::{CallRegisters, TrapFrame};
use kernel_core::exit::{self, HYPERCALL, IRQ, Left, SERROR, SYNC, Source};
use kernel_core::trace;

use crate::percpu::{self, EMERGENCY_OFFSET, WAY_BACK};
use crate::sysreg::mrs;
use crate::{crash, gicv2};

const _: () =
    assert!(offset_of!(TrapFrame, x) == 0 && offset_of!(TrapFrame, pc) == 248 && size_of::<TrapFrame>() == 272);

global_asm!(
    r#"
    // Moves x0 to x19, x29 and x30 to or from their places in the TrapFrame at `at`: what a call of a function may change,
    // and the other one of a pair; x0 is last, since it may be `at`.
    .macro changing op, at
    \op     x2, x3, [\at, #16]
    \op     x4, x5, [\at, #32]
    \op     x6, x7, [\at, #48]
    \op     x8, x9, [\at, #64]
    \op     x10, x11, [\at, #80]
    \op     x12, x13, [\at, #96]
    \op     x14, x15, [\at, #112]
    \op     x16, x17, [\at, #128]
    \op     x18, x19, [\at, #144]
    \op     x29, x30, [\at, #232]
    \op     x0, x1, [\at, #0]
    .endm

    // Moves the others, which functions keep (AAPCS64, section 6.1.1).
    .macro lasting pair, single, at
    \pair   x20, x21, [\at, #160]
    \pair   x22, x23, [\at, #176]
    \pair   x24, x25, [\at, #192]
    \pair   x26, x27, [\at, #208]
    \single x28, [\at, #224]
    .endm

    // What `changing` leaves of x0 to x30, ELR and SPSR to the TrapFrame at SP.
    .macro save_rest
    lasting stp, str, sp
    mrs     x21, elr_el2
    mrs     x22, spsr_el2
    stp     x21, x22, [sp, #248]
    .endm

    .macro save_frame
    changing stp, sp
    save_rest
    .endm

    // All of that from the TrapFrame at `at`, and back to the guest.
    .macro load_frame at
    ldp     x21, x22, [\at, #248]
    msr     elr_el2, x21
    msr     spsr_el2, x22
    lasting ldp, ldr, \at
    changing ldp, \at
    return
    .endm

    .macro return
    eret
    // Nothing behind an ERET may be speculated into.
    dsb     nsh
    isb
    .endm

    // From a lower EL: the frame, for a handler. The chain of frame pointers ends here.
    .macro from_guest handler
    .balign 128
    save_frame
    mov     x29, xzr
    mov     x0, sp
    bl      \handler
    .endm

    // The same, but a hypercall, which is told here, saves and loads no more than a function's caller does, unless there is
    // something left to do behind it. ELR and SPSR stay as they are meanwhile.
    .macro call_from_guest
    .balign 128
    changing stp, sp
    mov     x29, xzr
    mov     x0, sp
    mrs     x1, esr_el2
    ldr     w2, ={esr}
    cmp     x1, x2
    b.ne    sync_from_guest     // with both
    bl      {hypercall}
    cbz     w0, return_from_call
    save_rest
    mov     x1, x0
    mov     x0, sp
    bl      {finish}
    .endm

    // From EL2 itself: to the emergency stack, and never back. TPIDR_EL0 and TPIDRRO_EL0 are the guest's, whose pCPU
    // stops here; the second one keeps SP for the report.
    .macro from_el2 vector
    .balign 128
    msr     tpidr_el0, x0
    mov     x0, sp
    msr     tpidrro_el0, x0
    mrs     x0, tpidr_el2
    ldr     x0, [x0, #{emergency}]
    sub     sp, x0, #272
    mrs     x0, tpidr_el0
    save_frame
    mov     x0, sp
    mov     x1, #\vector
    bl      {own}
    .endm

    .macro vectors name, sync, irq, serror
    .balign 2048
    .global \name
\name:
    // With SP_EL0, which is not used, and with SP_EL2; from AArch64 and from AArch32.
    .irp    vector, 0, 1, 2, 3, 0, 1, 2, 3
    from_el2 \vector
    .endr
    .rept   2
    \sync
    from_guest \irq
    from_guest \irq
    from_guest \serror
    .endr
    .endm

    .section .vectors, "ax"
    vectors exception_vectors, call_from_guest, {irq}, {serror}
    vectors traced_vectors, "from_guest {traced_sync}", {traced_irq}, {traced_serror}

    .balign 128
sync_from_guest:
    save_rest
    bl      {sync}

return_from_call:
    changing ldp, sp
    return

    .global traced_return
traced_return:
    bl      {traced_end}
    .global return_to_guest
return_to_guest:
    load_frame sp

    // To a vCPU that has just been put on, whose registers are at x0.
    .global return_to_other
return_to_other:
    load_frame x0

    // What a detour for a GICv2 calls: keeps what another call may change, and calls `access` with the word behind the call in
    // the detour, and with the address of what the detour has put on the stack.
    .section .text.gicv2, "ax"
    .global gicv2_detour
gicv2_detour:
    sub     sp, sp, #272
    changing stp, sp
    mrs     x1, nzcv
    str     x1, [sp, #248]
    ldr     w0, [x30]
    add     x1, sp, #272
    bl      {detour}
    ldr     x1, [sp, #248]
    msr     nzcv, x1
    changing ldp, sp
    add     sp, sp, #272
    add     x30, x30, #4
    ret
"#,
    emergency = const EMERGENCY_OFFSET,
    esr = const exit::HYPERCALL_ESR,
    hypercall = sym hypercall,
    finish = sym finish,
    sync = sym guest_exit::<SYNC>,
    irq = sym guest_exit::<IRQ>,
    serror = sym guest_exit::<SERROR>,
    traced_sync = sym traced_exit::<SYNC>,
    traced_irq = sym traced_exit::<IRQ>,
    traced_serror = sym traced_exit::<SERROR>,
    traced_end = sym traced_end,
    own = sym crash::exception,
    detour = sym gicv2::access,
);

unsafe extern "C" {
    /// The vectors, and those of a pCPU that traces its exits.
    pub static exception_vectors: u8;
    pub static traced_vectors: u8;
    /// The way back to the guest from each of them.
    pub static return_to_guest: u8;
    static return_to_other: u8;
    pub static traced_return: u8;
}

/// A hypercall, with what its caller has in the registers that a call may change; what is left to do behind it.
///
/// # Safety
///
/// Called by the vectors or [`traced_exit`] alone, which have the frame on top of this pCPU's stack.
unsafe extern "C" fn hypercall(x: &mut CallRegisters) -> Left {
    // SAFETY: this is one of the entries that `local` names.
    exit::hypercall(&percpu::KERNEL, unsafe { percpu::this().local() }, x)
}

/// Another exception while the guest ran, if it is synchronous with its syndrome (`ESR_EL2`). It ends in the return to the
/// guest, for whom nothing that is on the stack below the frame has to be taken from there.
///
/// # Safety
///
/// As for [`hypercall`].
#[inline(never)]
unsafe extern "C" fn guest_exit<const KIND: u8>(frame: &mut TrapFrame, syndrome: u64) -> ! {
    // SAFETY: this is one of the entries that `local` names.
    let cpu = unsafe { percpu::this().local() };
    let esr = || if KIND == SYNC { syndrome } else { mrs!("esr_el2") };
    if exit::handle::<_, KIND>(&percpu::KERNEL, cpu, frame, esr) {
        // SAFETY: the caller's condition.
        unsafe { choose(frame) }
    }
    go_on(frame)
}

/// What is left to do behind a hypercall before the guest goes on, with the whole frame. It ends as [`guest_exit`].
///
/// # Safety
///
/// As for [`hypercall`].
#[inline(never)]
unsafe extern "C" fn finish(frame: &mut TrapFrame, left: Left) -> ! {
    // SAFETY: as above; what called this does not go on.
    let cpu = unsafe { percpu::this().local() };
    if exit::finish(&percpu::KERNEL, cpu, frame, left) {
        // SAFETY: the caller's condition.
        unsafe { choose(frame) }
    }
    go_on(frame)
}

/// Chooses who goes on. Another vCPU may do so, which then has its registers loaded from where it keeps them, so that they need
/// not be copied.
///
/// # Safety
///
/// As for [`hypercall`].
#[inline(never)]
pub unsafe extern "C" fn choose(frame: &mut TrapFrame) -> ! {
    // SAFETY: as above; what called this does not go on.
    let cpu = unsafe { percpu::this().local() };
    match exit::choose(&percpu::KERNEL, cpu, frame) {
        Source::Frame => go_on(frame),
        Source::Context => trace::end(cpu),
        // SAFETY: as above, on a stack as it was; in place of a loop, whose constants would take registers from the usual case.
        Source::Nobody => unsafe {
            asm!("mov sp, x0", "b {choose}", choose = sym choose, in("x0") frame, options(noreturn))
        },
    }
    // SAFETY: the frame is where the vectors had SP, and all that has been put below it is gone by now. The vCPU that runs
    // here stays as long as it does, and nobody writes its registers meanwhile.
    unsafe {
        asm!("mov sp, {}", "b {}", in(reg) frame, sym return_to_other, in("x0") cpu.registers(), options(noreturn))
    }
}

/// Goes to the way back to the guest, with the registers of the frame.
#[inline(always)]
fn go_on(frame: &mut TrapFrame) -> ! {
    // SAFETY: as in `finish`.
    unsafe { asm!("mov sp, {}", "ldr x0, [sp, #{}]", "br x0", in(reg) frame, const WAY_BACK, options(noreturn)) }
}

/// The same, and a record of it begins: while exits are traced.
///
/// # Safety
///
/// As for [`guest_exit`].
unsafe extern "C" fn traced_exit<const KIND: u8>(frame: &mut TrapFrame) -> ! {
    let esr = mrs!("esr_el2");
    let call = KIND == SYNC && esr == u64::from(exit::HYPERCALL_ESR);
    // SAFETY: as above; this use ends before the next one begins.
    trace::begin(unsafe { percpu::this().local() }, frame, if call { HYPERCALL } else { KIND }, esr);
    // SAFETY: the caller's condition.
    unsafe {
        match frame.x.first_chunk_mut() {
            Some(x) if call => {
                let left = hypercall(x);
                finish(frame, left)
            }
            _ => guest_exit::<KIND>(frame, esr),
        }
    }
}

/// The end of what [`traced_exit`] began.
unsafe extern "C" fn traced_end() {
    // SAFETY: called behind the end of `guest_exit`, on the same stack.
    trace::end(unsafe { percpu::this().local() });
}
