//! What a decision costs with few and with many vCPUs that wait: the only thing that grows is how often two of them are
//! compared.

use core::cell::Cell;

use super::*;

std::thread_local! {
    static COMPARED: Cell<u32> = const { Cell::new(0) };
}

/// The run queue compares two vCPUs.
pub(in crate::sched) fn compared() {
    COMPARED.set(COMPARED.get() + 1);
}

/// The most comparisons that one decision takes with `domains` busy domains of one vCPU each, on one pCPU: the end of a
/// turn, in which the vCPU goes back into the queue and the next one comes out of it.
fn costliest(domains: u32) -> u32 {
    let mut rig = Rig::new(1);
    for _ in 1..domains {
        let guest = domain(rig.kernel, 1);
        rig.start(&guest, 0);
    }
    let mut decision = |_| {
        let before = COMPARED.get();
        let last = rig.current(0).clone();
        rig.pass(0, SLICE);
        assert!(!rig.runs(0, &last), "the turn has ended");
        COMPARED.get() - before
    };
    (0..4 * domains).map(&mut decision).max().unwrap()
}

#[test]
fn a_decision_among_256_domains_costs_no_more_than_among_4_but_for_the_logarithm() {
    let (few, many) = (costliest(4), costliest(256));
    // Levels of the heap: down it goes one comparison each, and up again almost none.
    let levels = 256u32.ilog2() - 4u32.ilog2();
    assert!(few > 0 && many <= few + levels, "{few} comparisons among 4, {many} among 256");
}
