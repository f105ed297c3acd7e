//! Random sequences of both guests' steps, against a simple model (the class of Xen's XSA-224 and its likes).

use crate::hw::Memory;
use std::collections::BTreeSet;

use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GTF_READING, GTF_WRITING};
use hypercall_abi::ids::GuestPtr;
use hypercall_abi::memory::Reservation;
use hypercall_abi::nr::MEMORY_OP;
use proptest::prelude::*;

use super::*;

const GREFS: u32 = 3;
const PAGES: u64 = 3;
const SLOT_COUNT: u64 = 4;
/// A's page with the arguments of its memory calls, beyond the pages that it grants.
const A_ARGS: u64 = GUEST_RAM + 10 * PAGE_SIZE;

#[derive(Clone, Debug)]
enum Step {
    Grant { gref: u32, page: u64, to_b: bool, read_only: bool },
    EndAccess { gref: u32 },
    Map { gref: u32, slot: u64, write: bool },
    Unmap { which: usize, slot: Option<u64> },
    Copy { gref: u32, write: bool },
    GiveBack { page: u64 },
    TakeAgain { page: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let gref = 0..GREFS;
    prop_oneof![
        3 => (gref.clone(), 1..=PAGES, prop::bool::weighted(0.9), any::<bool>())
            .prop_map(|(gref, page, to_b, read_only)| Step::Grant { gref, page, to_b, read_only }),
        2 => gref.clone().prop_map(|gref| Step::EndAccess { gref }),
        4 => (gref.clone(), 0..SLOT_COUNT, any::<bool>())
            .prop_map(|(gref, slot, write)| Step::Map { gref, slot, write }),
        4 => (0usize..6, prop::option::weighted(0.2, 0..SLOT_COUNT))
            .prop_map(|(which, slot)| Step::Unmap { which, slot }),
        2 => (gref, any::<bool>()).prop_map(|(gref, write)| Step::Copy { gref, write }),
        1 => (1..=PAGES).prop_map(|page| Step::GiveBack { page }),
        1 => (1..=PAGES).prop_map(|page| Step::TakeAgain { page }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Mapped {
    handle: GrantHandle,
    gref: u32,
    slot: u64,
    write: bool,
    frame: Pa,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Granted {
    page: u64,
    to_b: bool,
    read_only: bool,
}

/// What must be true, kept in the plainest way.
#[derive(Default)]
struct Model {
    entries: [Option<Granted>; GREFS as usize],
    maps: Vec<Mapped>,
    present: BTreeSet<u64>,
}

impl Model {
    fn uses(&self, gref: u32, writers_only: bool) -> usize {
        self.maps.iter().filter(|m| m.gref == gref && (m.write || !writers_only)).count()
    }

    /// The frame that a use of the grant reaches now, or why it reaches none. An entry in use stays with the frame
    /// that it was used for, whatever the granter writes; a new right to write is still the granter's to give.
    fn reach(&self, t: &Pair, gref: u32, write: bool) -> Result<Pa, GrantStatus> {
        let frame = self.maps.iter().find(|m| m.gref == gref).map(|m| m.frame);
        if frame.is_none() || write && self.uses(gref, true) == 0 {
            let entry = self.entries[gref as usize].filter(|e| e.to_b && !(write && e.read_only));
            let entry = entry.ok_or(GrantStatus::GeneralError)?;
            if frame.is_none() {
                return if self.present.contains(&entry.page) {
                    Ok(page(&t.a, entry.page))
                } else {
                    Err(GrantStatus::BadPage)
                };
            }
        }
        Ok(frame.unwrap())
    }
}

fn reserve(t: &mut Pair, command: u64, page: u64) -> bool {
    poke(&t.a, A_ARGS + 0x800, &(FIRST + page));
    let arg = Reservation {
        extent_start: GuestPtr(A_ARGS + 0x800),
        nr_extents: 1,
        domid: DomId::SELF,
        ..Reservation::default()
    };
    poke(&t.a, A_ARGS, &arg);
    let a = t.a.clone();
    t.world.call(&a, MEMORY_OP, &[command, A_ARGS]) == 1
}

fn run(t: &mut Pair, model: &mut Model, step: &Step) -> Result<(), TestCaseError> {
    match *step {
        // An honest granter does not write an entry that is in use; a hostile one may, and harms only itself.
        Step::Grant { gref, page, to_b, read_only } => {
            if model.uses(gref, false) == 0 {
                let peer = if to_b { t.b.id } else { DomId(99) };
                grant(&t.a, gref, page, peer, read_only);
                model.entries[gref as usize] = Some(Granted { page, to_b, read_only });
            }
        }
        Step::EndAccess { gref } => {
            let in_use = flags(&t.a, gref) & (GTF_READING | GTF_WRITING) != 0;
            prop_assert_eq!(in_use, model.uses(gref, false) > 0);
            if !in_use {
                Fake::store32(entry(&t.a, gref), 0);
                model.entries[gref as usize] = None;
            }
        }
        Step::Map { gref, slot, write } => {
            let taken = model.maps.iter().any(|m| m.slot == slot);
            let expected = match model.reach(t, gref, write) {
                Ok(_) if taken => Err(GrantStatus::GeneralError),
                other => other,
            };
            let done = t.map(gref, slot, write);
            prop_assert_eq!(done.err(), expected.err().map(GrantStatus::raw));
            if let (Ok(handle), Ok(frame)) = (done, expected) {
                prop_assert!(model.maps.iter().all(|m| m.handle != handle));
                model.maps.push(Mapped { handle, gref, slot, write, frame });
            }
        }
        Step::Unmap { which, slot } => {
            let Some(map) = model.maps.get(which).copied() else {
                prop_assert_eq!(t.unmap(GrantHandle(1000), 0), GrantStatus::BadHandle.raw());
                return Ok(());
            };
            let status = t.unmap(map.handle, slot.unwrap_or(map.slot));
            if slot.is_none_or(|slot| slot == map.slot) {
                prop_assert_eq!(status, OKAY);
                model.maps.remove(which);
            } else {
                prop_assert_eq!(status, GrantStatus::GeneralError.raw());
            }
        }
        Step::Copy { gref, write } => {
            let expected = model.reach(t, gref, write);
            let own = CopyPtr::frame(DomId::SELF, Gfn(FIRST + 1), 0);
            let granted = CopyPtr::gref(t.a.id, GrantRef(gref), 0);
            let arg = if write {
                Copy { source: own, dest: granted, len: 8, flags: GNTCOPY_DEST_GREF, ..Copy::default() }
            } else {
                Copy { source: granted, dest: own, len: 8, flags: GNTCOPY_SOURCE_GREF, ..Copy::default() }
            };
            let done = t.one(GrantOp::Copy, &arg).1;
            prop_assert_eq!(done.status, expected.err().unwrap_or(GrantStatus::Okay).raw());
        }
        Step::GiveBack { page: n } => {
            let present = model.present.contains(&n);
            let in_use = present && model.maps.iter().any(|m| m.frame == page(&t.a, n));
            prop_assert_eq!(reserve(t, 1, n), present && !in_use, "a page in use stays");
            if !in_use {
                model.present.remove(&n);
            }
        }
        Step::TakeAgain { page: n } => {
            prop_assert_eq!(reserve(t, 6, n), model.present.insert(n));
        }
    }
    Ok(())
}

fn check(t: &Pair, model: &Model) -> Result<(), TestCaseError> {
    for slot in 0..SLOT_COUNT {
        let map = model.maps.iter().find(|m| m.slot == slot);
        prop_assert_eq!(t.touch(slot, Access::Read), map.map(|m| m.frame));
        prop_assert_eq!(t.touch(slot, Access::Write), map.filter(|m| m.write).map(|m| m.frame));
    }
    for gref in 0..GREFS {
        let reading = if model.uses(gref, false) > 0 { GTF_READING } else { 0 };
        let writing = if model.uses(gref, true) > 0 { GTF_WRITING } else { 0 };
        prop_assert_eq!(flags(&t.a, gref) & (GTF_READING | GTF_WRITING), reading | writing);
    }
    for &n in &model.present {
        let users = model.maps.iter().filter(|m| m.frame == page(&t.a, n)).count();
        prop_assert_eq!(u64::from(Fake::frames().references(page(&t.a, n))), 1 + users as u64);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn grants_behave_like_the_model_and_leave_nothing_behind(steps in prop::collection::vec(step(), 1..40), a_first in any::<bool>()) {
        let mut t = pair();
        // The table has a page from the start.
        entry(&t.a, 0);
        let mut model = Model { present: (1..=PAGES).collect(), ..Model::default() };
        for step in &steps {
            run(&mut t, &mut model, step)?;
            check(&t, &model)?;
        }
        let (a, b) = (t.a.clone(), t.b.clone());
        for domain in if a_first { [&a, &b] } else { [&b, &a] } {
            t.world.destroy(domain);
        }
        let free = t.free;
        drop((a, b, t));
        prop_assert_eq!(Fake::frames().free_pages(), free);
    }
}
