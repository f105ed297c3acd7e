//! SMCCC 1.1: what a guest may ask by `HVC #0` or `SMC #0` (Arm DEN0028), and who is asked.
//!
//! A function that is not here answers "not supported"; that is what TRNG and the services of vendors get, and it
//! is what guests expect of a platform without them.

use hypercall_abi::psci::{PsciFn, PsciResult, SMCCC_VERSION_1_1};

use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::psci;

/// What a service answers when asked about itself: the number of its functions, its UUID and its revision.
struct Service {
    functions: u64,
    uuid: [u32; 4],
    revision: (u64, u64),
}

/// The hypervisor's own (Xen public/arch-arm/smccc.h, `XEN_SMCCC_UID` a71812dc-c698-4369-9acf-79d18ddee667). A
/// register holds four bytes of the UUID, the first in the low bits.
const HYPERVISOR: Service =
    Service { functions: 3, uuid: [0xDC12_18A7, 0x6943_98C6, 0xD179_CF9A, 0x67E6_DE8D], revision: (0, 1) };
/// The standard services: PSCI and these three (`SSSC_SMCCC_UID` f863386f-4b39-4cbd-9220-ce1641e59f6f).
const STANDARD: Service =
    Service { functions: 17, uuid: [0x6F38_63F8, 0xBD4C_394B, 0x16CE_2092, 0x6F9F_E541], revision: (0, 1) };

/// Functions that each service has, by the low 16 bits (DEN0028, section 6.2).
const CALL_COUNT: u32 = 0xFF00;
const CALL_UID: u32 = 0xFF01;
const REVISION: u32 = 0xFF03;
/// Fast calls with 32-bit arguments to the standard services and to the hypervisor's.
const STANDARD_BASE: u32 = 0x8400_0000;
const HYPERVISOR_BASE: u32 = 0x8600_0000;

/// Carries out the call of the vCPU that runs here. `frame` stands behind the instruction.
#[inline(never)]
pub fn call<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame) {
    let Some(current) = &cpu.current else { return };
    #[allow(clippy::cast_possible_truncation, reason = "the function is in w0")]
    let function = frame.x[0] as u32;
    match (PsciFn::from_raw(function), function & 0xFFFF_0000) {
        (Some(PsciFn::SmcccVersion), _) => frame.x[0] = u64::from(SMCCC_VERSION_1_1),
        // Of the architecture's own functions there are these two. Mitigations that need firmware are not there.
        (Some(PsciFn::SmcccArchFeatures), _) => frame.x[0] = features(frame.x[1]),
        (Some(function), _) => {
            if let Some(answer) = psci::call(kernel, current, function, &frame.x) {
                frame.x[0] = answer;
            }
        }
        (None, HYPERVISOR_BASE) => about(&HYPERVISOR, function, frame),
        (None, STANDARD_BASE) => about(&STANDARD, function, frame),
        (None, _) => frame.x[0] = NOT_SUPPORTED,
    }
}

/// "Not supported", as PSCI and SMCCC both have it.
const NOT_SUPPORTED: u64 = psci::answer(PsciResult::NotSupported);

fn features(asked: u64) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "the function is in w1")]
    match PsciFn::from_raw(asked as u32) {
        Some(PsciFn::SmcccVersion | PsciFn::SmcccArchFeatures) => psci::answer(PsciResult::Success),
        Some(_) | None => NOT_SUPPORTED,
    }
}

fn about(service: &Service, function: u32, frame: &mut TrapFrame) {
    match function & 0xFFFF {
        CALL_COUNT => frame.x[0] = service.functions,
        CALL_UID => {
            for (x, word) in frame.x.iter_mut().zip(service.uuid) {
                *x = u64::from(word);
            }
        }
        REVISION => (frame.x[0], frame.x[1]) = service.revision,
        _ => frame.x[0] = NOT_SUPPORTED,
    }
}
