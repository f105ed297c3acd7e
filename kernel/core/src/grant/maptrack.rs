//! Handles: what a domain has mapped, by the number that it unmaps it with.

use core::marker::PhantomData;

use hypercall_abi::ids::{DomId, GrantHandle, GrantRef};

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::frame::FrameKind;
use crate::hw::Hw;
use crate::quota::Quota;

/// Bytes of an entry: four words.
const ENTRY_SIZE: u64 = 32;
const PER_FRAME: u32 = 128;
/// Frames of entries at most: as many as a directory of one page names.
const MAX_FRAMES: u32 = 512;
/// Flags in the first word.
const LIVE: u64 = 1 << 48;
const READ_ONLY: u64 = 1 << 49;

const _: () = assert!(PER_FRAME as u64 * ENTRY_SIZE == PAGE_SIZE);

/// A mapped grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Whose page it is.
    pub(super) granter: DomId,
    /// Which of the domains that ever had this id.
    pub(super) serial: u64,
    /// By which reference.
    pub(super) gref: GrantRef,
    /// Where it is mapped.
    pub(super) ipa: Ipa,
    /// The frame, on which the mapping holds a reference.
    pub(super) frame: Pa,
    /// Whether it is mapped for writing.
    pub(super) write: bool,
}

/// The handles of one domain, as the lock guards them.
pub(super) struct Maptrack<H: Hw> {
    owner: DomId,
    /// A page with the addresses of the frames of entries.
    directory: Option<Pa>,
    frames: u32,
    /// Handles that were ever in use lie below this.
    used: u32,
    /// First of the list of free handles, through the second words of their entries.
    free: Option<u32>,
    hw: PhantomData<H>,
}

impl<H: Hw> Maptrack<H> {
    pub(super) const fn new(owner: DomId) -> Self {
        Maptrack { owner, directory: None, frames: 0, used: 0, free: None, hw: PhantomData }
    }

    /// A handle for `map`; `None` if the pool or the domain's quota is used up.
    pub(super) fn insert(&mut self, quota: &Quota, map: Map) -> Option<GrantHandle> {
        let index = match self.free {
            Some(index) => {
                let next = H::load64(self.entry(index)?.add(8));
                self.free = u32::try_from(next).ok();
                index
            }
            None => {
                if self.used == self.frames * PER_FRAME {
                    self.grow(quota)?;
                }
                self.used += 1;
                self.used - 1
            }
        };
        let at = self.entry(index)?;
        let access = if map.write { 0 } else { READ_ONLY };
        H::store64(at.add(8), map.ipa.raw());
        H::store64(at.add(16), map.frame.raw());
        H::store64(at.add(24), map.serial);
        H::store64(at, u64::from(map.gref.0) | u64::from(map.granter.0) << 32 | LIVE | access);
        Some(GrantHandle(index))
    }

    /// What the handle stands for.
    pub(super) fn get(&self, handle: GrantHandle) -> Option<Map> {
        let at = self.entry(handle.0)?;
        let word = H::load64(at);
        if word & LIVE == 0 { None } else { Some(Self::decode(at, word)) }
    }

    fn decode(at: Pa, word: u64) -> Map {
        let [g0, g1, g2, g3, d0, d1, _, _] = word.to_le_bytes();
        Map {
            granter: DomId(u16::from_le_bytes([d0, d1])),
            serial: H::load64(at.add(24)),
            gref: GrantRef(u32::from_le_bytes([g0, g1, g2, g3])),
            ipa: Ipa::new(H::load64(at.add(8))),
            frame: Pa::new(H::load64(at.add(16))),
            write: word & READ_ONLY == 0,
        }
    }

    /// Takes the mapping of the handle away, which is unusable from now on: whoever did this has the mapping to
    /// remove, and nobody else has.
    pub(super) fn claim(&mut self, handle: GrantHandle) {
        if let Some(at) = self.entry(handle.0) {
            H::store64(at, H::load64(at) & !LIVE);
        }
    }

    /// Makes a claimed handle free for another mapping; returns what it stood for.
    pub(super) fn release(&mut self, handle: GrantHandle) -> Option<Map> {
        let at = self.entry(handle.0)?;
        let map = Self::decode(at, H::load64(at));
        H::store64(at.add(8), self.free.map_or(u64::MAX, u64::from));
        self.free = Some(handle.0);
        Some(map)
    }

    /// Handles that were ever in use lie below this.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// Forgets the highest handle; the domain is dying and hands out no more.
    pub(super) fn forget_last(&mut self) {
        self.claim(GrantHandle(self.used.saturating_sub(1)));
        self.used = self.used.saturating_sub(1);
        self.free = None;
    }

    /// Gives back the last frame of entries, at the end the directory; false when there is none left.
    pub(super) fn shrink(&mut self, quota: &Quota) -> bool {
        let Some(directory) = self.directory else { return false };
        if self.frames > 0 {
            self.frames -= 1;
            H::frames().put(Pa::new(H::load64(directory.add(u64::from(self.frames) * 8))));
        } else {
            self.directory = None;
            H::frames().put(directory);
        }
        quota.refund_kernel(1);
        true
    }

    fn grow(&mut self, quota: &Quota) -> Option<()> {
        if self.frames >= MAX_FRAMES {
            return None;
        }
        let directory = match self.directory {
            Some(directory) => directory,
            None => *self.directory.insert(new_frame::<H>(self.owner, quota)?),
        };
        let frame = new_frame::<H>(self.owner, quota)?;
        H::store64(directory.add(u64::from(self.frames) * 8), frame.raw());
        self.frames += 1;
        Some(())
    }

    fn entry(&self, index: u32) -> Option<Pa> {
        if index >= self.used {
            return None;
        }
        let frame = index / PER_FRAME;
        let base = H::load64(self.directory?.add(u64::from(frame) * 8));
        Some(Pa::new(base).add(u64::from(index % PER_FRAME) * ENTRY_SIZE))
    }
}

fn new_frame<H: Hw>(owner: DomId, quota: &Quota) -> Option<Pa> {
    quota.charge_kernel(1).ok()?;
    let Ok(frame) = H::frames().alloc(owner, FrameKind::Object, 0) else {
        quota.refund_kernel(1);
        return None;
    };
    H::zero(frame, PAGE_SIZE);
    Some(frame)
}
