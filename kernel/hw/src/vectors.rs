//! The exception vectors: registers into the frame, one call into safe code, registers back, ERET.
//!
//! While a guest runs, SP_EL2 points to the frame on top of the pCPU's stack. An exit saves the general registers
//! and nothing else. EL2's own exceptions go to a stack of their own, since theirs may be what broke.

use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};

use kernel_core::context::TrapFrame;
use kernel_core::exit::{self, HYPERCALL, IRQ, SERROR, SYNC};
use kernel_core::trace;

use crate::crash;
use crate::percpu::{self, EMERGENCY_OFFSET, WAY_BACK};
use crate::sysreg::mrs;

const _: () =
    assert!(offset_of!(TrapFrame, x) == 0 && offset_of!(TrapFrame, pc) == 248 && size_of::<TrapFrame>() == 272);

global_asm!(
    r#"
    // Moves x0 to x29 to or from their places in the TrapFrame at SP.
    .macro pairs op
    \op     x0, x1, [sp, #0]
    \op     x2, x3, [sp, #16]
    \op     x4, x5, [sp, #32]
    \op     x6, x7, [sp, #48]
    \op     x8, x9, [sp, #64]
    \op     x10, x11, [sp, #80]
    \op     x12, x13, [sp, #96]
    \op     x14, x15, [sp, #112]
    \op     x16, x17, [sp, #128]
    \op     x18, x19, [sp, #144]
    \op     x20, x21, [sp, #160]
    \op     x22, x23, [sp, #176]
    \op     x24, x25, [sp, #192]
    \op     x26, x27, [sp, #208]
    \op     x28, x29, [sp, #224]
    .endm

    // x0 to x30, ELR and SPSR to the TrapFrame at SP.
    .macro save_frame
    pairs   stp
    mrs     x21, elr_el2
    mrs     x22, spsr_el2
    stp     x30, x21, [sp, #240]
    str     x22, [sp, #256]
    .endm

    // From a lower EL: the frame, for a handler. The chain of frame pointers ends here.
    .macro from_guest
    .balign 128
    save_frame
    mov     x29, xzr
    mov     x0, sp
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

    .macro vectors name, hypercall, sync, irq, serror
    .balign 2048
    .global \name
\name:
    // With SP_EL0, which is not used, and with SP_EL2; from AArch64 and from AArch32.
    .irp    vector, 0, 1, 2, 3, 0, 1, 2, 3
    from_el2 \vector
    .endr
    .rept   2
    // Hypercalls are told here, so that each kind of exit is one function, which saves the registers that it needs.
    from_guest
    mrs     x1, esr_el2
    mov     w2, #({esr} & 0xffff)
    movk    w2, #({esr} >> 16), lsl #16
    cmp     x1, x2
    b.ne    1f
    bl      \hypercall
1:  bl      \sync
    .irp    handler, \irq, \irq, \serror
    from_guest
    bl      \handler
    .endr
    .endr
    .endm

    .section .vectors, "ax"
    vectors exception_vectors, {hypercall}, {sync}, {irq}, {serror}
    vectors traced_vectors, {traced_hypercall}, {traced_sync}, {traced_irq}, {traced_serror}

    .balign 128
    .global traced_return
traced_return:
    bl      {traced_end}
    .global return_to_guest
return_to_guest:
    ldp     x21, x22, [sp, #248]
    msr     elr_el2, x21
    msr     spsr_el2, x22
    pairs   ldp
    ldr     x30, [sp, #240]
    eret
    // Nothing behind an ERET may be speculated into.
    dsb     nsh
    isb
"#,
    emergency = const EMERGENCY_OFFSET,
    esr = const exit::HYPERCALL_ESR,
    hypercall = sym guest_exit::<HYPERCALL>,
    sync = sym guest_exit::<SYNC>,
    irq = sym guest_exit::<IRQ>,
    serror = sym guest_exit::<SERROR>,
    traced_hypercall = sym traced_exit::<HYPERCALL>,
    traced_sync = sym traced_exit::<SYNC>,
    traced_irq = sym traced_exit::<IRQ>,
    traced_serror = sym traced_exit::<SERROR>,
    traced_end = sym traced_end,
    own = sym crash::exception,
);

unsafe extern "C" {
    /// The vectors, and those of a pCPU that traces its exits.
    pub static exception_vectors: u8;
    pub static traced_vectors: u8;
    /// The way back to the guest from each of them.
    pub static return_to_guest: u8;
    pub static traced_return: u8;
}

/// An exception while the guest ran. It ends in the return to the guest, for whom nothing that is on the stack below the
/// frame has to be taken from there.
///
/// # Safety
///
/// Called by the vectors alone, with the frame on top of this pCPU's stack.
#[inline(never)]
unsafe extern "C" fn guest_exit<const KIND: u8>(frame: &mut TrapFrame) -> ! {
    // SAFETY: this is one of the entries that `local` names.
    let cpu = unsafe { percpu::this().local() };
    exit::handle::<_, KIND>(&percpu::KERNEL, cpu, frame, || mrs!("esr_el2"));
    // SAFETY: the frame is where the vectors had SP, and all that has been put below it is gone by now.
    unsafe { asm!("mov sp, {}", "ldr x0, [sp, #{}]", "br x0", in(reg) frame, const WAY_BACK, options(noreturn)) }
}

/// The same, and a record of it begins: while exits are traced.
///
/// # Safety
///
/// As for [`guest_exit`].
unsafe extern "C" fn traced_exit<const KIND: u8>(frame: &mut TrapFrame) -> ! {
    // SAFETY: as above; this use ends before the next one begins.
    trace::begin(unsafe { percpu::this().local() }, frame, KIND, mrs!("esr_el2"));
    // SAFETY: the caller's condition.
    unsafe { guest_exit::<KIND>(frame) }
}

/// The end of what [`traced_exit`] began.
unsafe extern "C" fn traced_end() {
    // SAFETY: called behind the end of `guest_exit`, on the same stack.
    trace::end(unsafe { percpu::this().local() });
}
