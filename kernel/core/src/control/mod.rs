//! The control calls: decoded here, authorised by the caller's capability before any argument is read.

mod domain;
mod machine;
mod memory;
#[cfg(test)]
mod tests;
mod vcpu;

use hypercall_abi::control::{Op, VERSION};
use hypercall_abi::errno::XenError;

use crate::cap::CapTable;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

/// A control call; `number` is the hypercall's.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>, number: u32) -> CallResult {
    let op = Op::from_number(number).ok_or(XenError::NoSys)?;
    let caps = call.domain.caps.clone().ok_or(XenError::Perm)?;
    match op {
        Op::Version => {
            call.args[1] = u64::from(VERSION);
            Ok(0)
        }
        Op::PlatformInfo | Op::PcpuInfo | Op::ConsoleRead | Op::Power | Op::DomainCreate | Op::DomainLookup => {
            caps.platform(call.args[0])?;
            platform_op(call, &caps, op)
        }
        Op::CapDrop => {
            caps.remove(call.args[0])?;
            Ok(0)
        }
        Op::DomainInfo
        | Op::DomainDestroy
        | Op::DomainPause
        | Op::DomainUnpause
        | Op::DomainShutdown
        | Op::DomainMaxPages
        | Op::Populate
        | Op::MemoryWrite
        | Op::MemoryRead
        | Op::VcpuStart
        | Op::VcpuInfo
        | Op::VcpuAffinity
        | Op::HvmParam
        | Op::GrantSeed
        | Op::PortAlloc
        | Op::VuartInit => {
            let target = caps.domain(call.args[0])?;
            domain_op(call, &caps, &target, op)
        }
    }
}

fn platform_op<H: Hw>(call: &mut Call<'_, H>, caps: &CapTable<H>, op: Op) -> CallResult {
    match op {
        Op::PlatformInfo => machine::platform_info(call),
        Op::PcpuInfo => machine::pcpu_info(call),
        Op::ConsoleRead => machine::console_read(call),
        Op::Power => machine::power(call),
        Op::DomainCreate => domain::create(call, caps),
        Op::DomainLookup => domain::lookup(call, caps),
        other => domain_only(other),
    }
}

fn domain_op<H: Hw>(call: &mut Call<'_, H>, caps: &CapTable<H>, target: &H::Shared<Domain<H>>, op: Op) -> CallResult {
    match op {
        Op::DomainDestroy => return domain::destroy(call, caps, target),
        Op::DomainInfo => return domain::info(call, target),
        _ if target.is_dying() => return Err(XenError::Srch.into()),
        Op::DomainPause => call.kernel.pause(target)?,
        Op::DomainUnpause => call.kernel.unpause(target)?,
        Op::DomainShutdown => domain::shutdown(call, target)?,
        Op::DomainMaxPages => {
            target.quota.set_max(call.args[1]);
            target.p2m.size_pool(call.args[1]);
        }
        Op::Populate => return memory::populate(call, target),
        Op::MemoryWrite => return memory::write(call, target),
        Op::MemoryRead => return memory::read(call, target),
        Op::VcpuStart => vcpu::start(call, target)?,
        Op::VcpuInfo => vcpu::info(call, target)?,
        Op::VcpuAffinity => vcpu::affinity(call, target)?,
        Op::HvmParam => target.params.set(call.arg32(1), call.args[2])?,
        Op::GrantSeed => memory::grant_seed(call, target)?,
        Op::PortAlloc => domain::port_alloc(call, target)?,
        Op::VuartInit => domain::vuart_init(call, target)?,
        other => return domain_only(other),
    }
    Ok(0)
}

/// The dispatcher above sends each operation to the side that its capability belongs to.
fn domain_only(_: Op) -> CallResult {
    Err(XenError::NoSys.into())
}
