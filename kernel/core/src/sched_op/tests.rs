//! Tests of `sched_op` as a guest calls it: polls, watchdogs, the end.

use hypercall_abi::control::{DomainParams, STATE_SHUTDOWN};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, GuestPtr};
use hypercall_abi::nr::SCHED_OP;
use hypercall_abi::shared_info::layout;

use super::*;
use crate::fake::{Fake, GUEST_RAM, Shared, World, params, poke, pretend, with};
use crate::hw::{Memory, PcpuId};
use crate::local::LocalCpu;
use crate::runstate::nanoseconds;

const PORTS: u64 = GUEST_RAM + 0x800;

struct Guest {
    world: World,
    dom0: Shared<Domain<Fake>>,
    domain: Shared<Domain<Fake>>,
    /// A port of the guest, and Dom0's end of it.
    near: Port,
    far: Port,
}

/// A guest whose two vCPUs are on pCPU 0, one after the other.
fn guest() -> Guest {
    let (mut world, dom0) = World::new();
    let domain = world.domain_like(&DomainParams { vcpus: 2, ..params(4) }, 4);
    for vcpu in domain.vcpus() {
        pretend(vcpu, Some(PcpuId(0)));
    }
    let near = crate::fake::open_port(&domain, dom0.id);
    poke(
        &dom0,
        GUEST_RAM,
        &hypercall_abi::evtchn::BindInterdomain { remote_dom: domain.id, remote_port: near, ..Default::default() },
    );
    assert_eq!(world.call(&dom0, hypercall_abi::nr::EVENT_CHANNEL_OP, &[0, GUEST_RAM]), 0);
    let far = crate::fake::peek::<hypercall_abi::evtchn::BindInterdomain>(&dom0, GUEST_RAM).local_port;
    Guest { world, dom0, domain, near, far }
}

impl Guest {
    /// `SCHEDOP_poll` of these ports by a vCPU, with a time limit in nanoseconds of its system time.
    fn poll(&mut self, vcpu: usize, ports: &[Port], timeout: u64) -> i64 {
        for (n, port) in (0..).zip(ports) {
            poke(&self.domain, PORTS + 4 * n, port);
        }
        let nr_ports = u32::try_from(ports.len()).unwrap();
        let arg = Poll { ports: GuestPtr(PORTS), nr_ports, timeout, ..Poll::default() };
        poke(&self.domain, GUEST_RAM, &arg);
        let domain = self.domain.clone();
        self.world.call_of(&domain, vcpu, SCHED_OP, &[SchedOp::Poll as u64, GUEST_RAM])[0].cast_signed()
    }

    fn sched(&mut self, command: SchedOp, words: [u32; 2]) -> i64 {
        poke(&self.domain, GUEST_RAM, &words);
        let domain = self.domain.clone();
        self.world.call(&domain, SCHED_OP, &[command as u64, GUEST_RAM])
    }

    fn send(&self) {
        evtchn::send(self.world.kernel, &self.dom0, self.far).unwrap();
    }

    fn sleeps(&self, vcpu: usize) -> bool {
        self.domain.vcpus()[vcpu].held() & BLOCKED != 0
    }

    /// Masks the port, as who polls it does.
    fn mask(&self) {
        let at = self.domain.shared_info.pa().add(layout::EVTCHN_MASK as u64);
        Fake::set_bits64(at, 1 << self.near.0);
    }
}

#[test]
fn a_poll_ends_with_an_event_on_its_port_though_that_is_masked() {
    let mut g = guest();
    g.mask();
    assert_eq!(g.poll(0, &[g.near], 0), 0);
    assert!(g.sleeps(0));
    g.send();
    assert!(!g.sleeps(0));
    assert_eq!(g.domain.vcpus()[0].polling.load(Ordering::Relaxed), 0);
}

#[test]
fn any_vcpu_may_poll_for_a_port_that_notifies_another_one() {
    let mut g = guest();
    g.mask();
    let other = crate::fake::open_port(&g.domain, DomId(0));
    for ports in [vec![g.near], vec![other, g.near], vec![]] {
        assert_eq!(g.poll(1, &ports, 0), 0);
        assert!(g.sleeps(1));
        g.send();
        assert!(!g.sleeps(1), "{ports:?}");
        let at = g.domain.shared_info.pa().add(layout::EVTCHN_PENDING as u64);
        Fake::clear_bits64(at, u64::MAX);
    }
    assert_eq!(g.poll(1, &[other], 0), 0);
    g.send();
    assert!(g.sleeps(1), "another port is not what it waits for");
}

#[test]
fn a_poll_for_what_is_pending_returns_at_once() {
    let mut g = guest();
    g.mask();
    g.send();
    let other = crate::fake::open_port(&g.domain, DomId(0));
    for ports in [vec![g.near], vec![other, g.near]] {
        assert_eq!(g.poll(0, &ports, 0), 0);
        assert!(!g.sleeps(0));
        assert_eq!(g.domain.vcpus()[0].polling.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_poll_with_a_bad_argument_fails_and_leaves_the_vcpu_awake() {
    let mut g = guest();
    // A bad port is found behind a good one, too, and the largest ones do not overflow.
    for bad in [Port(4096), Port(u32::MAX)] {
        for ports in [vec![bad], vec![g.near, bad]] {
            assert_eq!(g.poll(0, &ports, 0), XenError::Inval as i64, "{ports:?}");
            assert!(!g.sleeps(0));
            assert_eq!(g.domain.vcpus()[0].polling.load(Ordering::Relaxed), 0);
        }
    }
    let arg = Poll { ports: GuestPtr(u64::MAX - 2), nr_ports: 2, ..Poll::default() };
    poke(&g.domain, GUEST_RAM, &arg);
    let domain = g.domain.clone();
    assert_eq!(g.world.call(&domain, SCHED_OP, &[SchedOp::Poll as u64, GUEST_RAM]), XenError::Fault as i64);
    let arg = Poll { ports: GuestPtr(PORTS), nr_ports: 129, ..Poll::default() };
    poke(&g.domain, GUEST_RAM, &arg);
    assert_eq!(g.world.call(&domain, SCHED_OP, &[SchedOp::Poll as u64, GUEST_RAM]), XenError::Inval as i64);
    assert!(!g.sleeps(0));
}

#[test]
fn a_poll_has_a_time_limit_in_the_guests_own_time() {
    let mut g = guest();
    with(|s| s.now += 1_000_000_000);
    let now = nanoseconds::<Fake>(Fake::now() - g.domain.counter_offset);
    assert_eq!(g.poll(0, &[g.near], now), 0);
    assert!(!g.sleeps(0), "the time is over");
    for timeout in [now + 1_000_000, u64::MAX] {
        assert_eq!(g.poll(0, &[g.near], timeout), 0);
        assert!(g.sleeps(0));
        let until = g.domain.vcpus()[0].poll_until.load(Ordering::Relaxed);
        assert!(until > Fake::now());
        g.world.kernel.release(&g.domain.vcpus()[0], BLOCKED);
    }
}

#[test]
fn a_domain_has_two_watchdogs_which_are_armed_poked_and_disarmed_by_their_ids() {
    let mut g = guest();
    let inval = XenError::Inval as i64;
    assert_eq!(g.sched(SchedOp::Watchdog, [0, 0]), inval);
    assert_eq!(g.sched(SchedOp::Watchdog, [1, 5]), inval, "it is not armed");
    assert_eq!(g.sched(SchedOp::Watchdog, [0, 10]), 1);
    assert_eq!(g.sched(SchedOp::Watchdog, [0, u32::MAX]), 2);
    assert_eq!(g.sched(SchedOp::Watchdog, [0, 10]), XenError::NoSpc as i64);
    for id in [3, u32::MAX] {
        assert_eq!(g.sched(SchedOp::Watchdog, [id, 10]), inval);
    }
    let kernel = g.world.kernel;
    let alarm = || kernel.sched.queues(PcpuId(0)).alarms.earliest();
    let first = alarm();
    with(|s| s.now += 1_000_000);
    assert_eq!(g.sched(SchedOp::Watchdog, [1, 10]), 0);
    assert!(alarm() > first);
    assert_eq!(g.sched(SchedOp::Watchdog, [1, 0]), 0);
    assert_eq!(g.sched(SchedOp::Watchdog, [1, 0]), inval);
    with(|s| s.now += 1_000_000_000);
    kernel.timer_fired(&LocalCpu::new(PcpuId(0)));
    assert_eq!(g.domain.life(), (0, 0), "the other one takes longer");
    assert_eq!(g.sched(SchedOp::Watchdog, [2, 0]), 0);
    assert_eq!(alarm(), None);
}

#[test]
fn a_watchdog_is_the_business_of_the_pcpu_where_it_was_set_last() {
    let mut g = guest();
    let kernel = g.world.kernel;
    let alarms = || [0, 1].map(|id| kernel.sched.queues(PcpuId(id)).alarms.earliest().is_some());
    assert_eq!(g.sched(SchedOp::Watchdog, [0, 10]), 1);
    assert_eq!(alarms(), [true, false]);
    with(|s| s.pcpu = PcpuId(1));
    for id in [1, 0, 3, 9] {
        g.sched(SchedOp::Watchdog, [id, 10]);
        assert_eq!(alarms(), [false, true]);
    }
    for id in [1, 2] {
        assert_eq!(g.sched(SchedOp::Watchdog, [id, 0]), 0);
    }
    assert_eq!(alarms(), [false; 2]);
    assert_eq!(with(|s| s.kicks.clone()), [], "no guest makes another pCPU work this way");
}

#[test]
fn a_shutdown_stops_every_vcpu_keeps_its_first_reason_and_knows_all_reasons() {
    let mut g = guest();
    assert_eq!(g.sched(SchedOp::Shutdown, [6, 0]), XenError::Inval as i64);
    assert_eq!(g.domain.life(), (0, 0));
    assert_eq!(g.sched(SchedOp::Shutdown, [1, 0]), 0);
    assert_eq!(g.sched(SchedOp::Shutdown, [3, 0]), 0);
    assert_eq!(g.domain.life(), (STATE_SHUTDOWN, 1));
    assert!(g.domain.vcpus().iter().all(|vcpu| vcpu.held() & crate::runstate::STOPPED != 0));
}

#[test]
fn commands_of_others_are_refused_and_unknown_ones_do_not_exist() {
    let mut g = guest();
    assert_eq!(g.sched(SchedOp::RemoteShutdown, [0, 0]), XenError::Perm as i64);
    assert_eq!(g.sched(SchedOp::PinOverride, [0, 0]), XenError::Perm as i64);
    let domain = g.domain.clone();
    assert_eq!(g.world.call(&domain, SCHED_OP, &[8, 0]), XenError::NoSys as i64);
    // Only the low 32 bits of a command count.
    assert_eq!(g.world.call(&domain, SCHED_OP, &[1 << 32, 0]), 0);
    assert!(!g.sleeps(0), "a yield");
}
