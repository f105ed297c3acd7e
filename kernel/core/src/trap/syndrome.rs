//! `ESR_EL2` as a value (Arm ARM DDI 0487, section D24.2.40).
//!
//! Decoding is total: a class that is not expected, because nothing here makes it trap, is [`Cause::Unexpected`].

use crate::addr::{GuestVa, Ipa};
use crate::context::Syndrome;

/// Why a guest trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `WFI` or `WFE`.
    Wait {
        /// It was `WFE`.
        event: bool,
    },
    /// Access to FP, SIMD or SVE registers while these are off.
    Fp,
    /// `HVC` with this immediate.
    Hvc(u16),
    /// `SMC` with this immediate.
    Smc(u16),
    /// `MRS`, `MSR` or a system instruction.
    Register(RegisterAccess),
    /// A fetch that stage 2 refused, or an external abort of it.
    InstructionAbort(Abort),
    /// A load or store that stage 2 refused, or an external abort of it.
    DataAbort(Abort),
    /// Any other class.
    Unexpected,
}

/// The system register of a trapped access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterAccess {
    /// The encoding, see [`encoding`].
    pub encoding: u32,
    /// The general register that is read or written.
    pub register: u8,
    /// Whether the system register is read.
    pub read: bool,
}

/// What is wrong with an access to memory. The parts are taken out of the syndrome when they are asked for: an exit
/// to an emulated device is a hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort(Syndrome);

/// One register's load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// General register.
    pub register: u8,
    /// A load extends the sign.
    pub signed: bool,
    /// The register is used as 64 bits.
    pub wide: bool,
}

/// The encoding of a system register, laid out as in a syndrome with the general register and the direction cleared.
pub const fn encoding(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1
}

/// The bits of [`encoding`].
const ENCODING: u64 = 0x3F_FC1E;

const fn bit(esr: u64, n: u32) -> bool {
    esr >> n & 1 != 0
}

/// The five bits from `n`.
const fn register(esr: u64, n: u32) -> u8 {
    (esr >> n & 31) as u8
}

impl Cause {
    /// Reads the syndrome registers.
    #[inline]
    pub fn decode(syndrome: Syndrome) -> Cause {
        let esr = syndrome.esr;
        match esr >> 26 & 0x3F {
            0x16 => Cause::Hvc((esr & 0xFFFF) as u16),
            0x24 => Cause::DataAbort(Abort(syndrome)),
            0x18 => Cause::Register(RegisterAccess {
                encoding: (esr & ENCODING) as u32,
                register: register(esr, 5),
                read: bit(esr, 0),
            }),
            0x01 => Cause::Wait { event: esr & 3 == 1 },
            0x07 => Cause::Fp,
            0x17 => Cause::Smc((esr & 0xFFFF) as u16),
            0x20 => Cause::InstructionAbort(Abort(syndrome)),
            _ => Cause::Unexpected,
        }
    }
}

/// Whether the instruction that trapped is 32 bits long (`ESR_EL2.IL`).
pub(super) const fn is_long(esr: u64) -> bool {
    bit(esr, 25)
}

impl Abort {
    /// Whether stage 2 has no such page. Else it forbids the access, or the memory system answered with an error.
    pub const fn is_translation(self) -> bool {
        matches!(self.0.esr & 0x3F, 0x04..=0x07)
    }

    /// Where, as the guest sees it.
    pub const fn far(self) -> GuestVa {
        GuestVa::new(self.0.far)
    }

    /// Where, after stage 1. Valid if [`Self::is_translation`].
    pub const fn ipa(self) -> Ipa {
        // HPFAR_EL2.FIPA is bits 51:12 of the address, in bits 43:4 of the register.
        Ipa::new((self.0.hpfar & 0xFFF_FFFF_FFF0) << 8 | self.0.far & 0xFFF)
    }

    /// It happened while stage 1 was walked, not at the access itself.
    pub const fn is_walk(self) -> bool {
        bit(self.0.esr, 7)
    }

    /// It was a store.
    pub const fn is_write(self) -> bool {
        bit(self.0.esr, 6)
    }

    /// It was a cache maintenance instruction by address.
    pub const fn is_maintenance(self) -> bool {
        bit(self.0.esr, 8)
    }

    /// Whether the instruction is 32 bits long.
    pub(super) const fn is_long(self) -> bool {
        is_long(self.0.esr)
    }

    /// What moves between which registers; `None` for pairs, atomics and others that cannot be told.
    pub fn transfer(self) -> Option<Transfer> {
        let esr = self.0.esr;
        let transfer = Transfer {
            size: 1 << (esr >> 22 & 3),
            register: register(esr, 16),
            signed: bit(esr, 21),
            wide: bit(esr, 15),
        };
        bit(esr, 24).then_some(transfer)
    }
}
