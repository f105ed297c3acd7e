//! `multicall`: several hypercalls in one exit.

use hypercall_abi::errno::{XenError, encode};
use hypercall_abi::multicall::MulticallEntry;
use hypercall_abi::{control, nr};

use crate::addr::GuestVa;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult, Stop, route};

/// `multicall(entries, count)`. Each entry gets its result before the next one starts. A multicall cannot hold
/// another one, nor control calls, whose results need registers.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut args = call.args;
    while args[1] & u64::from(u32::MAX) > 0 {
        let at = GuestVa::new(args[0]);
        let mut entry: MulticallEntry = guest::read(call.domain, at)?;
        #[allow(clippy::cast_possible_truncation, reason = "the number counts as 32 bits, as in x16")]
        let number = entry.op as u32;
        call.args = entry.args;
        let result = match number {
            nr::MULTICALL => Err(XenError::Inval.into()),
            control::BASE.. => Err(XenError::NoSys.into()),
            _ => route(call, number),
        };
        match result {
            Ok(value) => entry.result = value,
            Err(Stop::Error(error)) => entry.result = encode(Err(error)),
            Err(Stop::Again) => {
                // The entry goes on with its own arguments when the guest issues the multicall again.
                entry.args = call.args;
                guest::write(call.domain, at, &entry)?;
                call.args = args;
                return Err(Stop::Again);
            }
        }
        guest::write(call.domain, at, &entry)?;
        args[0] = args[0].wrapping_add(size_of::<MulticallEntry>() as u64);
        args[1] -= 1;
        call.args = args;
        if args[1] & u64::from(u32::MAX) > 0 && (call.should_yield() || call.vcpu.held() != 0) {
            return Err(Stop::Again);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
