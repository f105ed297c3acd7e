//! Uses of a grant: counted in the active entry, shown to the granter in `GTF_reading` and `GTF_writing`.
//!
//! An active entry that counts at least one use names a frame, and each use holds a reference on it. Counting and
//! references change together under the table's lock, so a second user never meets a frame that the first one
//! has just let go.

use hypercall_abi::grant::{GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_TYPE_MASK, GTF_WRITING, GrantStatus};
use hypercall_abi::ids::{DomId, GrantRef};

use super::table::Place;
use crate::addr::{Ipa, Pa};
use crate::domain::Domain;
use crate::hw::Hw;

/// Uses of one kind, at most: far from the counter's end.
const MAX_USES: u16 = 0x7FFF;
/// Attempts to change a word that its granter changes at the same time. An honest granter writes it once or twice.
const ATTEMPTS: u32 = 8;

/// The first word of an active entry: readers (15:0), writers (31:16), the user (47:32). The second is the frame.
#[derive(Clone, Copy)]
struct Uses {
    readers: u16,
    writers: u16,
    user: DomId,
}

impl Uses {
    fn load<H: Hw>(at: Pa) -> Self {
        let [r0, r1, w0, w1, u0, u1, _, _] = H::load64(at).to_le_bytes();
        Uses {
            readers: u16::from_le_bytes([r0, r1]),
            writers: u16::from_le_bytes([w0, w1]),
            user: DomId(u16::from_le_bytes([u0, u1])),
        }
    }

    fn store<H: Hw>(self, at: Pa) {
        let word = u64::from(self.readers) | u64::from(self.writers) << 16 | u64::from(self.user.0) << 32;
        H::store64(at, word);
    }

    const fn is_none(self) -> bool {
        self.readers == 0 && self.writers == 0
    }
}

/// Begins a use of `granter`'s grant by `user`; returns the frame, with a reference that the use holds.
#[inline]
pub(super) fn begin<H: Hw>(granter: &Domain<H>, gref: GrantRef, user: DomId, write: bool) -> Result<Pa, GrantStatus> {
    let table = granter.grants.table.lock();
    let place = table.place(gref).ok_or(GrantStatus::BadGntRef)?;
    let mut uses = Uses::load::<H>(place.active);
    let frame = if uses.is_none() {
        begin_first(granter, place, user, write)?
    } else {
        if uses.user != user {
            return Err(GrantStatus::GeneralError);
        }
        if uses.readers.max(uses.writers) >= MAX_USES {
            return Err(GrantStatus::NoSpace);
        }
        let frame = Pa::new(H::load64(place.active.add(8)));
        let page = H::frames().get(frame, granter.id).map_err(|_| GrantStatus::BadPage)?;
        if write && uses.writers == 0 {
            show::<H>(place.shared, user, write)?;
        }
        page.keep()
    };
    uses.user = user;
    if write {
        uses.writers += 1
    } else {
        uses.readers += 1
    }
    uses.store::<H>(place.active);
    Ok(frame)
}

/// The first use looks up the frame, behind the flag that tells the granter to leave the entry alone.
#[inline(always)]
fn begin_first<H: Hw>(granter: &Domain<H>, place: Place, user: DomId, write: bool) -> Result<Pa, GrantStatus> {
    show::<H>(place.shared, user, write)?;
    let gfn = u64::from(H::load32(place.shared.add(4)));
    match granter.p2m.pin(Ipa::from_number(gfn), write) {
        Ok(page) => {
            let frame = page.keep();
            H::store64(place.active.add(8), frame.raw());
            Ok(frame)
        }
        Err(_) => {
            hide::<H>(place.shared, GTF_READING | GTF_WRITING);
            Err(GrantStatus::BadPage)
        }
    }
}

/// Ends a use, and lets its reference on `frame` go.
#[inline]
pub(super) fn end<H: Hw>(granter: &Domain<H>, gref: GrantRef, frame: Pa, write: bool) {
    let table = granter.grants.table.lock();
    H::frames().put(frame);
    // A granter that is being destroyed has no entries any more.
    let Some(place) = table.place(gref) else { return };
    let mut uses = Uses::load::<H>(place.active);
    let count = if write { &mut uses.writers } else { &mut uses.readers };
    *count = count.saturating_sub(1);
    uses.store::<H>(place.active);
    let writing = if uses.writers == 0 && write { GTF_WRITING } else { 0 };
    let reading = if uses.is_none() { GTF_READING } else { 0 };
    if writing | reading != 0 {
        hide::<H>(place.shared, writing | reading);
    }
}

/// Whether the reference is in use by anyone.
pub(super) fn is_used<H: Hw>(place: Place) -> bool {
    !Uses::load::<H>(place.active).is_none()
}

/// Checks that the entry permits the use, and sets the flags that show it, in one step against the granter.
#[inline(always)]
fn show<H: Hw>(at: Pa, user: DomId, write: bool) -> Result<(), GrantStatus> {
    let flags = u32::from(if write { GTF_READING | GTF_WRITING } else { GTF_READING });
    let mut word = H::load32(at);
    for _ in 0..ATTEMPTS {
        let permits = word & u32::from(GTF_TYPE_MASK) == u32::from(GTF_PERMIT_ACCESS);
        if !permits || word >> 16 != u32::from(user.0) || write && word & u32::from(GTF_READONLY) != 0 {
            return Err(GrantStatus::GeneralError);
        }
        let found = H::cas32(at, word, word | flags);
        if found == word {
            return Ok(());
        }
        word = found;
    }
    // A granter that never leaves its entry alone grants nothing.
    Err(GrantStatus::GeneralError)
}

/// Takes flags back. Entries are aligned pairs of words, of which the second is written back as it was.
#[inline(always)]
fn hide<H: Hw>(at: Pa, flags: u16) {
    H::clear_bits64(at, u64::from(flags));
}
