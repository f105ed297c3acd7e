//! What a vCPU is in registers: the frame saved at every exit, and the state moved only when vCPUs change.

/// General registers of the guest, saved by the vectors on every exit and loaded again on return.
/// The vectors' assembly relies on this layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct TrapFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// `ELR_EL2`: where the guest goes on.
    pub pc: u64,
    /// `SPSR_EL2`: the guest's PSTATE.
    pub pstate: u64,
}

const _: () = assert!(core::mem::offset_of!(TrapFrame, pc) == 248);
const _: () = assert!(size_of::<TrapFrame>() == 272);

/// x0 to x19, with which a [`TrapFrame`] begins: what the vectors save of a hypercall, beside x29 and x30. The rest of the
/// frame is filled only if something is [left](crate::exit::Left) to do behind the call.
pub type CallRegisters = [u64; 20];

impl TrapFrame {
    /// Register `n` of an instruction's Rt field, where 31 reads as zero.
    pub fn register(&self, n: u8) -> u64 {
        self.x.get(usize::from(n)).copied().unwrap_or(0)
    }

    /// Writes register `n` of an instruction's Rt field; a write to 31 is dropped.
    pub fn set_register(&mut self, n: u8, value: u64) {
        if let Some(x) = self.x.get_mut(usize::from(n)) {
            *x = value;
        }
    }

    /// Goes on behind the instruction that trapped (A64 instructions and 32-bit A32 ones are 4 bytes). A software step over
    /// it is done.
    pub fn skip_instruction(&mut self) {
        self.pc = self.pc.wrapping_add(4);
        self.pstate &= !PSTATE_SS;
    }
}

/// Hands the names of a vCPU's EL1 and EL0 system registers to `$then`: the one list of what is saved and loaded when
/// another vCPU takes the pCPU (Arm ARM, section D24.2). `CNTV_CTL_EL0` is not in it, since that one has to be last.
/// The last three are the GIC's virtual CPU interface but for the list registers: the guest's masks and enables, and the
/// active priorities, in this order (Arm IHI 0069H, section 12.4).
#[macro_export]
macro_rules! el1_registers {
    ($then:ident) => {
        $then! {
            sp_el0 sp_el1 elr_el1 spsr_el1 sctlr_el1 cpacr_el1 ttbr0_el1 ttbr1_el1 tcr_el1 esr_el1 afsr0_el1 afsr1_el1
            far_el1 mair_el1 amair_el1 vbar_el1 contextidr_el1 tpidr_el0 tpidrro_el0 tpidr_el1 par_el1 csselr_el1
            cntkctl_el1 mdscr_el1 vmpidr_el2 cntvoff_el2 cntv_cval_el0 ich_vmcr_el2 ich_ap0r0_el2 ich_ap1r0_el2
        }
    };
}

macro_rules! el1_context {
    ($($register:ident)*) => {
        /// The registers of [`el1_registers`], each under its name, and the virtual timer's control.
        #[derive(Clone, Copy, Debug, Default)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the manual describes each register under the same name")]
        pub struct El1Context {
            $(pub $register: u64,)*
            pub cntv_ctl_el0: u64,
        }
    };
}
el1_registers!(el1_context);

/// `SPSR_EL2.SS`: a software step is to be made.
const PSTATE_SS: u64 = 1 << 21;
/// `MDSCR_EL1.MDE`: breakpoints and watchpoints are compared.
pub const MDSCR_MDE: u64 = 1 << 15;

/// Breakpoints and watchpoints, by kind and number: `DBGBVR`, `DBGBCR`, `DBGWVR`, `DBGWCR`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugContext(pub [[u64; 16]; 4]);

/// FP and SIMD registers, switched only when a second vCPU uses them on the same pCPU.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub struct FpContext {
    /// q0 to q31.
    pub q: [u128; 32],
    /// `FPCR`.
    pub fpcr: u64,
    /// `FPSR`.
    pub fpsr: u64,
}
