//! Two pCPUs at both ends of a channel. The fake machine is a thread's own, so each sees pending bits of its own; the
//! ports, which are what is raced for, belong to the domains.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::evtchn::ops::bind_interdomain;

/// Connections that are tried.
const ROUNDS: u32 = 200_000;

#[test]
fn a_connection_whose_far_end_closes_meanwhile_leaves_no_port_behind() {
    let (mut world, _dom0, guests) = guests(2);
    let [a, b] = &guests[..] else { unreachable!() };
    let far = alloc(&mut world, a, b.id).unwrap();
    let near = connect(&mut world, b, a.id, far).unwrap();
    close(&mut world, b, near).unwrap();
    let (kernel, over) = (world.kernel, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = crate::evtchn::close(kernel, a, far);
                assert_eq!(a.events.open(Binding::Unbound(b.id), VcpuId(0)), Ok(far));
            }
        });
        for _ in 0..ROUNDS {
            if let Ok(near) = bind_interdomain(kernel, b, a, far) {
                assert_eq!(crate::evtchn::close(kernel, b, near), Ok(()));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(open_ports(b), [], "an error says that there is no port");
}
