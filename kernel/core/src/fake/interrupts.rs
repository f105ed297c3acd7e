//! The physical GIC: what is pending, who was kicked, and the list registers.

use super::{Fake, State, machine, point, with};
use crate::hw::{IntId, Interrupts, PcpuId};

#[cfg(test)]
impl State {
    /// The interrupt of another pCPU's kick, if one has come.
    pub(crate) fn take_kick(&mut self) -> Option<IntId> {
        let at = self.kicks.iter().position(|to| *to == self.pcpu)?;
        self.kicks.remove(at);
        Some(IntId(0))
    }
}

impl Interrupts for Fake {
    fn kick(pcpu: PcpuId) {
        point();
        with(|s| s.kicks.push(pcpu));
    }

    fn send(pcpu: PcpuId, sgi: IntId) {
        with(|s| s.sent.push((pcpu, sgi)));
    }

    fn acknowledge() -> Option<IntId> {
        with(|s| {
            #[cfg(test)]
            let kick = crate::model::running().then(|| s.take_kick()).flatten();
            #[cfg(not(test))]
            let kick = None;
            let taken = kick.or_else(|| s.pending.pop_front());
            s.dropped.extend(taken);
            taken
        })
    }

    fn deactivate(intid: IntId) {
        with(|s| s.deactivated.push(intid));
    }

    fn configure(intid: IntId, enabled: bool, edge: bool) {
        with(|s| {
            if enabled {
                s.enabled.insert(intid, s.pcpu)
            } else {
                s.enabled.remove(&intid)
            };
            if edge {
                s.edges.insert(intid)
            } else {
                s.edges.remove(&intid)
            };
        });
    }

    fn set_active(intid: IntId, active: bool) {
        with(|s| if active { s.active.insert(intid) } else { s.active.remove(&intid) });
    }

    fn shared_interrupts() -> u32 {
        288
    }

    fn list_registers() -> usize {
        with(|s| s.lrs.len())
    }

    fn read_lr(n: usize) -> u64 {
        let lr = with(|s| s.lrs[n]);
        if lr & 0x3FF < 16 { lr & !(1 << 41) } else { lr }
    }

    fn write_lr(n: usize, value: u64) {
        with(|s| {
            s.lr_writes += 1;
            s.lrs[n] = value;
        });
    }

    fn empty_lrs() -> u64 {
        with(|s| machine::empty_lrs(&s.lrs))
    }

    fn ends_nest() -> bool {
        with(|s| s.ends_nest)
    }

    fn notify_underflow(on: bool) {
        with(|s| s.underflow = on);
    }
}
