//! The exception vectors: registers into the frame, one call into safe code, registers back, ERET.
//!
//! While a guest runs, SP_EL2 points to the frame on top of the pCPU's stack. An exit saves the general registers
//! and nothing else. EL2's own exceptions go to a stack of their own, since theirs may be what broke.

use core::arch::global_asm;

use kernel_core::context::{Exit, Syndrome, TrapFrame};
use kernel_core::exit;

use crate::crash::{self, Registers};
use crate::percpu::{self, EMERGENCY_OFFSET};
use crate::sysreg::mrs;

global_asm!(
    r#"
    // Moves x0 to x29 to or from their places in TrapFrame (context.rs) and Registers (crash.rs).
    .macro pairs op, base
    \op     x0, x1, [\base, #0]
    \op     x2, x3, [\base, #16]
    \op     x4, x5, [\base, #32]
    \op     x6, x7, [\base, #48]
    \op     x8, x9, [\base, #64]
    \op     x10, x11, [\base, #80]
    \op     x12, x13, [\base, #96]
    \op     x14, x15, [\base, #112]
    \op     x16, x17, [\base, #128]
    \op     x18, x19, [\base, #144]
    \op     x20, x21, [\base, #160]
    \op     x22, x23, [\base, #176]
    \op     x24, x25, [\base, #192]
    \op     x26, x27, [\base, #208]
    \op     x28, x29, [\base, #224]
    .endm

    // From a lower EL: x0-x30, ELR and SPSR (TrapFrame, context.rs), then the handler with the frame. The chain of
    // frame pointers ends here.
    .macro from_guest handler
    .balign 128
    pairs   stp, sp
    mrs     x21, elr_el2
    mrs     x22, spsr_el2
    stp     x30, x21, [sp, #240]
    str     x22, [sp, #256]
    mov     x29, xzr
    mov     x0, sp
    bl      \handler
    b       return_to_guest
    .endm

    // From EL2 itself: to the emergency stack, and never back. TPIDR_EL0 is the guest's, whose pCPU stops here.
    .macro from_el2 kind
    .balign 128
    msr     tpidr_el0, x0
    mrs     x0, tpidr_el2
    ldr     x0, [x0, #{emergency}]
    sub     x0, x0, #288
    pairs   stp, x0
    mov     x1, #\kind
    b       own_exception
    .endm

    .section .vectors, "ax"
    .balign 2048
    .global exception_vectors
exception_vectors:
    from_el2 0
    from_el2 1
    from_el2 2
    from_el2 3
    from_el2 0
    from_el2 1
    from_el2 2
    from_el2 3
    from_guest {sync}
    from_guest {irq}
    from_guest {irq}
    from_guest {serror}
    from_guest {sync}
    from_guest {irq}
    from_guest {irq}
    from_guest {serror}

    .balign 128
    // x0 = the frame on top of this pCPU's stack.
    .global enter_guest
enter_guest:
    mov     sp, x0
return_to_guest:
    ldp     x21, x22, [sp, #248]
    msr     elr_el2, x21
    msr     spsr_el2, x22
    pairs   ldp, sp
    ldr     x30, [sp, #240]
    eret
    // Nothing behind an ERET may be speculated into.
    dsb     nsh
    isb

    // x0 = Registers on the emergency stack, with x1 to x29 in place; x1 = what kind of exception.
own_exception:
    mrs     x2, tpidr_el0
    str     x2, [x0]
    mov     x2, sp
    stp     x30, x2, [x0, #240]
    mrs     x2, elr_el2
    mrs     x3, esr_el2
    stp     x2, x3, [x0, #256]
    mrs     x2, far_el2
    str     x2, [x0, #272]
    mov     sp, x0
    bl      {own}
1:  wfi
    b       1b
"#,
    emergency = const EMERGENCY_OFFSET,
    sync = sym exit_sync,
    irq = sym exit_irq,
    serror = sym exit_serror,
    own = sym own_exception,
);

unsafe extern "C" {
    /// The vector table.
    static exception_vectors: u8;
    /// Enters the guest whose registers are in `frame`.
    ///
    /// # Safety
    ///
    /// `frame` is the one on top of this pCPU's stack, whose contents are given up.
    pub fn enter_guest(frame: *mut TrapFrame) -> !;
}

/// Address for `VBAR_EL2`.
pub fn table() -> u64 {
    &raw const exception_vectors as u64
}

/// A synchronous exception of the guest.
///
/// # Safety
///
/// Called by the vectors alone, with the frame on top of this pCPU's stack.
unsafe extern "C" fn exit_sync(frame: &mut TrapFrame) {
    let syndrome = Syndrome { esr: mrs!("esr_el2"), far: mrs!("far_el2"), hpfar: mrs!("hpfar_el2") };
    // SAFETY: this is one of the entries that `with_local` names.
    unsafe { percpu::with_local(|kernel, cpu| exit::handle(kernel, cpu, frame, Exit::Sync(syndrome))) };
}

/// A physical interrupt while the guest ran.
///
/// # Safety
///
/// As for [`exit_sync`].
unsafe extern "C" fn exit_irq(frame: &mut TrapFrame) {
    // SAFETY: this is one of the entries that `with_local` names.
    unsafe { percpu::with_local(|kernel, cpu| exit::handle(kernel, cpu, frame, Exit::Irq)) };
}

/// An SError while the guest ran.
///
/// # Safety
///
/// As for [`exit_sync`].
unsafe extern "C" fn exit_serror(frame: &mut TrapFrame) {
    let esr = mrs!("esr_el2");
    // SAFETY: this is one of the entries that `with_local` names.
    unsafe { percpu::with_local(|kernel, cpu| exit::handle(kernel, cpu, frame, Exit::SError(esr))) };
}

/// An exception of EL2 itself: nothing is left to trust.
///
/// # Safety
///
/// Called by the vectors alone, with the registers on the emergency stack.
unsafe extern "C" fn own_exception(registers: &Registers, kind: u64) -> ! {
    crash::exception(registers, kind)
}
