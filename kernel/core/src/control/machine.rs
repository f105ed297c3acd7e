//! Control calls on the machine: what it is, its log, its power.

use hypercall_abi::control::{PcpuInfo, PlatformInfo};
use hypercall_abi::errno::XenError;

use crate::addr::GuestVa;
use crate::domain::MAX_DOMAINS;
use crate::guest;
use crate::hw::{Hw, PcpuId};
use crate::hypercall::{Call, CallResult};
use crate::runstate::nanoseconds;

/// Bytes of the log that are copied at once.
const CHUNK: usize = 256;
/// `MIDR_EL1` as an `MRS` syndrome names it: op0 3, op1 0, CRn 0, CRm 0, op2 0.
const MIDR: u32 = 3 << 20;
/// `MPIDR_EL1`: op2 5.
const MPIDR: u32 = 3 << 20 | 5 << 17;

/// `PlatformInfo`.
pub fn platform_info<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let machine = call.kernel.machine().ok_or(XenError::NoDev)?;
    let dom0 = call.kernel.dom0_layout().ok_or(XenError::NoDev)?;
    #[allow(clippy::cast_possible_truncation, reason = "MIDR_EL1 has 32 bits")]
    let midr = H::id_register(MIDR) as u32;
    let info = PlatformInfo {
        total_pages: H::frames().total_pages(),
        free_pages: H::frames().free_pages(),
        dom0_base: dom0.ram.start.raw(),
        dom0_size: dom0.ram.size,
        window_base: dom0.window.raw(),
        window_size: dom0.window_size,
        uptime_ns: nanoseconds::<H>(call.kernel.uptime()),
        image_base: machine.image.start.raw(),
        image_size: machine.image.size,
        counter_hz: H::frequency(),
        pcpus: u32::try_from(H::online()).unwrap_or(0),
        max_domains: u32::try_from(MAX_DOMAINS).unwrap_or(0),
        midr,
    };
    guest::write(call.domain, GuestVa::new(call.args[1]), &info)?;
    Ok(0)
}

/// `PcpuInfo`.
pub fn pcpu_info<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let id = u8::try_from(call.args[1]).ok().filter(|id| usize::from(*id) < H::online());
    let id = PcpuId(id.ok_or(XenError::NoEnt)?);
    let (idle, load) = call.kernel.sched.load(id);
    let info = PcpuInfo {
        mpidr: H::id_register(MPIDR),
        idle_ns: nanoseconds::<H>(idle),
        load: u32::try_from(load).unwrap_or(u32::MAX),
        reserved: 0,
    };
    guest::write(call.domain, GuestVa::new(call.args[2]), &info)?;
    Ok(0)
}

/// `ConsoleRead`.
pub fn console_read<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut position = call.args[1];
    let mut done = 0;
    while done < call.args[3] && !call.should_yield() {
        let mut chunk = [0; CHUNK];
        let want = usize::try_from(call.args[3] - done).map_or(CHUNK, |left| left.min(CHUNK));
        let part = chunk.get_mut(..want).ok_or(XenError::Inval)?;
        let (after, count) = call.kernel.console.read(position, part);
        position = after;
        if count == 0 {
            break;
        }
        let part = part.get(..count).ok_or(XenError::Inval)?;
        guest::copy_out(call.domain, GuestVa::new(call.args[2].wrapping_add(done)), part)?;
        done += count as u64;
    }
    (call.args[1], call.args[2]) = (position, done);
    Ok(0)
}

/// `Power`.
pub fn power<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match call.args[1] {
        0 => H::power_off(),
        1 => H::restart(),
        _ => Err(XenError::Inval.into()),
    }
}
