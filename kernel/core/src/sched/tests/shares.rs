//! Who gets how much: weights, caps, sleepers, by a clock that goes from one timer interrupt to the next.

use super::*;
use crate::hw::Ticks;
use crate::sched::Policy;
use hypercall_abi::control::{DEFAULT_WEIGHT, MAX_WEIGHT};
use hypercall_abi::errno::XenError;

const MS: u64 = 1_000_000;

impl Rig {
    /// Lets time pass on pCPU 0, with each timer interrupt when it is due.
    fn run(&mut self, nanoseconds: u64) {
        let end = Fake::now() + ticks::<Fake>(nanoseconds);
        self.exit(0);
        while Fake::now() < end {
            let due = with(|s| s.deadline).unwrap_or(Ticks::MAX).clamp(Fake::now(), end);
            with(|s| {
                s.now = due;
                s.pending.push_back(exit::TIMER_PPI);
            });
            self.exit(0);
        }
    }

    /// A started domain of one vCPU.
    fn guest(&mut self, weight: u32, cap: u32) -> Dom {
        let guest = domain(self.kernel, 1);
        self.kernel.set_share(&guest, weight, cap);
        self.start(&guest, 0);
        guest
    }

    /// The vCPU that runs on pCPU 0 sleeps until `at`, by its own timer.
    fn sleep_until(&mut self, vcpu: &Shared<Vcpu<Fake>>, at: Ticks) {
        vcpu.poll_until.store(at, core::sync::atomic::Ordering::Relaxed);
        assert!(self.kernel.block(vcpu));
        self.exit(0);
    }
}

fn ran(domain: &Dom) -> u64 {
    domain.vcpus().iter().map(|vcpu| vcpu.run.lock().running(Fake::now())).sum()
}

/// How much each has run in each of `count` stretches of time.
fn stretches(rig: &mut Rig, domains: &[Dom], nanoseconds: u64, count: usize) -> Vec<Vec<u64>> {
    let one = |rig: &mut Rig| {
        let before: Vec<_> = domains.iter().map(ran).collect();
        rig.run(nanoseconds);
        domains.iter().zip(before).map(|(domain, before)| ran(domain) - before).collect()
    };
    (0..count).map(|_| one(rig)).collect()
}

/// The busy domain of the rig and `further` ones, with the weights.
fn weighted(rig: &mut Rig, weights: &[u32]) -> Vec<Dom> {
    let busy = rig.busy.clone();
    rig.kernel.set_share(&busy, weights[0], 0);
    let mut all = vec![busy];
    all.extend(weights[1..].iter().map(|weight| rig.guest(*weight, 0)));
    all
}

fn assert_shares(ran: &[u64], weights: &[u32], percent: u64) {
    let (all, sum) = (ran.iter().sum::<u64>(), weights.iter().map(|w| u64::from(*w)).sum::<u64>());
    for (ran, weight) in ran.iter().zip(weights) {
        let fair = all * u64::from(*weight) / sum;
        assert!(ran.abs_diff(fair) * 100 <= fair * percent, "weight {weight} ran {ran} ticks where {fair} are fair");
    }
}

#[test]
fn eight_busy_vcpus_share_a_pcpu_by_their_weights_within_5_percent_of_300_ms_and_1_percent_of_3_s() {
    for unit in [1, 37, DEFAULT_WEIGHT, 16383] {
        let mut rig = Rig::new(1);
        let weights = [1, 2, 4, 1, 2, 4, 1, 2].map(|weight| weight * unit);
        let domains = weighted(&mut rig, &weights);
        // The turn that was under way when the busy domain got its weight counts by the old one.
        rig.run(500 * MS);
        for ran in stretches(&mut rig, &domains, 300 * MS, 20) {
            assert_shares(&ran, &weights, 5);
        }
        for ran in stretches(&mut rig, &domains, 3000 * MS, 2) {
            assert_shares(&ran, &weights, 1);
        }
    }
}

#[test]
fn a_new_weight_counts_from_the_next_turn_on() {
    let mut rig = Rig::new(1);
    let domains = weighted(&mut rig, &[256, 256]);
    rig.run(100 * MS);
    rig.kernel.set_share(&domains[1], 768, 0);
    rig.run(20 * MS);
    assert_shares(&stretches(&mut rig, &domains, 300 * MS, 1)[0], &[256, 768], 5);
}

#[test]
fn whoever_sleeps_before_its_turn_ends_gains_nothing() {
    // It runs for a part of a turn, then sleeps for a tick, for a part of a turn, or for many.
    for works in [100_000, 900_000, 1_249_000, 1_251_000, 2_400_000] {
        for sleeps in [0, 200_000, 1_000_000, 9_000_000] {
            let mut rig = Rig::new(1);
            let domains = weighted(&mut rig, &[DEFAULT_WEIGHT; 8]);
            let gamer = domains[7].clone();
            let vcpu = gamer.vcpus()[0].clone();
            rig.run(50 * MS);
            let (start, before) = (Fake::now(), ran(&gamer));
            let mut worked = before;
            while Fake::now() - start < ticks::<Fake>(2000 * MS) {
                rig.run(50_000);
                if rig.runs(0, &vcpu) && ran(&gamer) - worked >= ticks::<Fake>(works) {
                    rig.sleep_until(&vcpu, Fake::now() + ticks::<Fake>(sleeps).max(1));
                    worked = ran(&gamer);
                }
            }
            let (took, fair) = (ran(&gamer) - before, (Fake::now() - start) / 8);
            assert!(took <= fair + fair / 100, "{works} {sleeps}: it ran {took} ticks where {fair} are fair");
        }
    }
}

#[test]
fn whoever_sleeps_often_pays_for_the_way_to_the_next_one() {
    let mut rig = Rig::new(1);
    let domains = weighted(&mut rig, &[DEFAULT_WEIGHT; 8]);
    let vcpu = domains[7].vcpus()[0].clone();
    rig.run(50 * MS);
    let (start, before, mut sleeps) = (Fake::now(), ran(&domains[7]), 0);
    while Fake::now() - start < ticks::<Fake>(1000 * MS) {
        rig.run(5_000);
        if rig.runs(0, &vcpu) {
            rig.sleep_until(&vcpu, Fake::now() + ticks::<Fake>(50_000));
            sleeps += 1;
        }
    }
    let (took, fair) = (ran(&domains[7]) - before + sleeps * ticks::<Fake>(3_500), (Fake::now() - start) / 8);
    assert!(sleeps > 5000 && took <= fair + fair / 100, "{sleeps} sleeps, {took} ticks where {fair} are fair");
}

#[test]
fn a_vcpu_that_wakes_up_among_32_busy_ones_runs_at_once_and_one_that_is_ahead_waits_for_its_turn() {
    let mut rig = Rig::new(1);
    let mut domains = weighted(&mut rig, &[DEFAULT_WEIGHT; 33]);
    let vcpu = domains.pop().unwrap().vcpus()[0].clone();
    while !rig.runs(0, &vcpu) {
        rig.run(MS);
    }
    let mut worst = 0;
    for _ in 0..100 {
        let at = Fake::now() + ticks::<Fake>(37 * MS);
        rig.sleep_until(&vcpu, at);
        while !rig.runs(0, &vcpu) {
            rig.run(10_000);
        }
        worst = worst.max(Fake::now() - at);
        rig.run(100_000);
    }
    // One turn of another, which is 10 ms / 33 here.
    assert!(worst <= ticks::<Fake>(330_000), "it waited {worst} ticks");
}

#[test]
fn who_comes_while_another_one_catches_up_with_a_third_waits_for_its_own_share_alone() {
    let mut rig = Rig::new(1);
    // The heavy one runs for 20 s from one turn of the light one to the next.
    let domains = weighted(&mut rig, &[MAX_WEIGHT, 1, DEFAULT_WEIGHT]);
    let vcpu = domains[2].vcpus()[0].clone();
    rig.run(2000 * MS);
    while !rig.runs(0, &vcpu) {
        rig.run(100_000);
    }
    rig.run(150_000);
    assert!(rig.runs(0, &vcpu) && rig.kernel.block(&vcpu));
    rig.exit(0);
    rig.run(15 * MS);
    let before = ran(&domains[2]);
    rig.kernel.notify(&vcpu);
    rig.run(200 * MS);
    assert!(ran(&domains[2]) > before, "it is ahead by the part of a turn");
}

#[test]
fn a_cap_holds_in_every_100_ms_and_gives_what_it_says() {
    for cap in [1, 20, 50, 99] {
        for others in [0, 1] {
            let mut rig = Rig::new(1);
            let domains = weighted(&mut rig, &[DEFAULT_WEIGHT; 2][..=others]);
            let capped = &domains[0];
            rig.kernel.set_share(capped, 4 * DEFAULT_WEIGHT, cap);
            rig.run(15 * MS);
            let window = ticks::<Fake>(100 * MS);
            let all = stretches(&mut rig, &domains, 100 * MS, 20);
            for ran in &all {
                let most = window * u64::from(cap) / 100;
                assert!(ran[0] <= most + most / 10 + 100, "{} ticks under a cap of {cap}", ran[0]);
            }
            let sum: u64 = all.iter().map(|ran| ran[0]).sum();
            let wanted = 20 * window * u64::from(cap.min(if others == 1 { 80 } else { 100 })) / 100;
            assert!(sum.abs_diff(wanted) * 100 <= wanted * 3, "cap {cap}: {sum} of {wanted} ticks");
        }
    }
}

#[test]
fn the_vcpus_of_a_domain_share_its_cap_and_none_is_left_out() {
    let mut rig = Rig::new(1);
    let guest = domain(rig.kernel, 3);
    rig.kernel.set_share(&guest, DEFAULT_WEIGHT, 30);
    (0..3).for_each(|n| rig.start(&guest, n));
    rig.run(3000 * MS);
    for vcpu in guest.vcpus() {
        let share = vcpu.run.lock().running(Fake::now()) * 100 / ticks::<Fake>(3000 * MS);
        assert!((9..=11).contains(&share), "{share} %");
    }
}

#[test]
fn a_cap_counts_at_once_and_is_gone_at_once_and_a_pause_outlasts_it() {
    let mut rig = Rig::new(1);
    let busy = rig.busy.clone();
    rig.run(5 * MS);
    assert_eq!(with(|s| s.deadline), None, "who is alone runs without a timer");
    rig.kernel.set_share(&busy, DEFAULT_WEIGHT, 10);
    rig.exit(0);
    let guest = rig.guest(DEFAULT_WEIGHT, 0);
    assert!(stretches(&mut rig, std::slice::from_ref(&busy), 100 * MS, 1)[0][0] <= ticks::<Fake>(11 * MS));
    rig.kernel.pause(&busy).unwrap();
    rig.run(50 * MS);
    assert_eq!(stretches(&mut rig, std::slice::from_ref(&busy), 100 * MS, 1)[0][0], 0);
    rig.kernel.unpause(&busy).unwrap();
    rig.kernel.set_share(&busy, DEFAULT_WEIGHT, 0);
    rig.run(20 * MS);
    assert_shares(&stretches(&mut rig, &[busy, guest], 300 * MS, 1)[0], &[1, 1], 5);
}

#[test]
fn a_vcpu_goes_to_a_pcpu_that_it_prefers_and_to_another_rather_than_wait() {
    let idle = |rig: &Rig, bits| rig.kernel.sched.idle.store(bits, core::sync::atomic::Ordering::SeqCst);
    for (sleeping, hard, soft, goes) in
        [(0b1110, 0b1111, 0b0100, 2), (0b1010, 0b1111, 0b0100, 1), (0b1010, 0b1001, 0b0100, 3), (0, 0b1111, 0b1000, 3)]
    {
        let rig = Rig::new(4);
        let guest = domain(rig.kernel, 1);
        let vcpu = guest.vcpus()[0].clone();
        rig.kernel.pin(&vcpu, hard, soft);
        idle(&rig, sleeping);
        rig.start(&guest, 0);
        assert_eq!(stands(&vcpu), (Runstate::Runnable, PcpuId(goes)), "{sleeping:b} {hard:b} {soft:b}");
    }
}

#[test]
fn vcpus_of_dead_domains_take_nobodys_place_in_a_queue() {
    let mut rig = Rig::new(1);
    let busy = rig.busy.clone();
    rig.kernel.set_share(&busy, MAX_WEIGHT, 0);
    let many = DomainParams { vcpus: 64, ..params(2) };
    // Each vCPU has one short turn, and is so far ahead then that it stands in the queue for long, its domain being gone.
    let round = |rig: &mut Rig| -> Result<(), XenError> {
        let guest = rig.kernel.create(&many, None)?;
        assert_eq!(memory::populate(&guest, Ipa::new(GUEST_RAM), 1), (1, Ok(())));
        rig.kernel.set_share(&guest, 1, 0);
        rig.kernel.unpause(&guest)?;
        let before = rig.kernel.sched.queues(PcpuId(0)).ready.waiting();
        (0..64).for_each(|n| rig.start(&guest, n));
        rig.run(50 * MS);
        assert_eq!(rig.kernel.sched.queues(PcpuId(0)).ready.waiting(), before + 64, "all of them have a place");
        assert!(crate::lifecycle::destroy(rig.kernel, &guest));
        Ok(())
    };
    let refused = (0..20).find_map(|_| round(&mut rig).err());
    assert_eq!(refused, Some(XenError::NoSpc));
    rig.run(60_000 * MS);
    assert_eq!(round(&mut rig), Ok(()));
}

#[test]
fn vcpus_that_never_sleep_spread_over_the_pcpus_wherever_they_begin() {
    for (pcpus, count) in [(2, 4), (2, 6), (4, 8), (4, 12)] {
        let mut rig = Rig::new(pcpus);
        let guests: Vec<_> = (0..count).map(|_| rig.guest(DEFAULT_WEIGHT, 0)).collect();
        let mut run = |milliseconds| {
            for _ in 0..milliseconds {
                with(|s| s.now += ticks::<Fake>(MS));
                for n in 0..pcpus {
                    with(|s| s.pending.push_back(exit::TIMER_PPI));
                    rig.exit(n);
                }
            }
        };
        run(200);
        let before: Vec<_> = guests.iter().map(ran).collect();
        run(3000);
        // As many on each as on the others, beside the one that is bound to it.
        let fair = ticks::<Fake>(3000 * MS) * u64::from(pcpus) / (count as u64 + u64::from(pcpus));
        for ran in guests.iter().zip(before).map(|(guest, before)| ran(guest) - before) {
            assert!(ran.abs_diff(fair) * 100 <= fair * 5, "{ran} ticks where {fair} are fair, with {count} on {pcpus}");
        }
    }
}
