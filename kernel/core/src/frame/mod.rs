//! The machine's frames: who owns each, as what, and how many use it.
//!
//! One atomic word per frame holds owner, kind and references together, so that "still theirs, and now one more
//! user" is one step: a frame cannot change hands between the check and the use. The last reference frees the
//! frame, whoever drops it; nothing else does.

mod buddy;
mod scrub;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use crate::addr::Pa;
use crate::domain::MAX_DOMAINS;
use crate::quota::Quota;
use crate::sync::SpinMutex;
use buddy::Buddy;

/// What a frame is used as, by the bits of its [`State`]. One is set in those that a domain may reach through a pointer.
/// Tables and objects are charged to a domain too, but its pointers must never lead there, not even in the moment between
/// translation and use. Another one is set in RAM, which has a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum FrameKind {
    /// Not for use: a hole, the image, firmware.
    Reserved = 0,
    /// Free: the allocator's.
    Free = 2 << KIND_SHIFT,
    /// A kernel object.
    Object = 4 << KIND_SHIFT,
    /// A stage-2 table.
    Table = 6 << KIND_SHIFT,
    /// Free as well, and zero up to the point of coherency.
    Clean = 8 << KIND_SHIFT,
    /// RAM that its domain is giving back.
    Leaving = RAM,
    /// RAM of a domain.
    Ram = RAM | SEEN_BY_GUESTS,
    /// A page that we share with a domain, which can map it: of its grant table, or for information.
    Shared = SEEN_BY_GUESTS,
}

/// The count of references goes on no further than this and one more: far above what pools of tables let domains map.
const COUNT: u64 = (1 << 30) - 1;
/// Set while there are references. Below it the count is one less, so that dropping the last one takes just this bit.
const REFERENCED: u64 = 1 << 31;
const KIND_SHIFT: u32 = 32;
const SEEN_BY_GUESTS: u64 = 1 << KIND_SHIFT;
const OWNER_SHIFT: u32 = 47;
const RAM: u64 = 1 << 63;
/// The owner of a frame that belongs to nobody: all ones, which is no domain's id.
const NOBODY: DomId = DomId(u16::MAX);

/// The word that says everything about a frame: whether it is RAM (63), owner (62:47), kind (46:32), whether there are
/// references (31), and their number less one (30:0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u64);

/// An owner as the frame table looks for it: what the words of all frames are that its pointers may lead to, but for being
/// RAM and for the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u64);

impl From<DomId> for Owner {
    fn from(id: DomId) -> Self {
        Owner(State::live(id, FrameKind::Shared).0)
    }
}

impl Owner {
    /// Who it is.
    pub fn id(self) -> DomId {
        State(self.0).owner()
    }
}

impl State {
    const RESERVED: State = State::new(NOBODY, FrameKind::Reserved, 0);
    const FREE: State = State::new(NOBODY, FrameKind::Free, 0);
    const CLEAN: State = State::new(NOBODY, FrameKind::Clean, 0);

    const fn new(owner: DomId, kind: FrameKind, references: u64) -> Self {
        State((owner.0 as u64) << OWNER_SHIFT | kind as u64 | (REFERENCED - 1 + references))
    }

    /// A frame just allocated.
    const fn live(owner: DomId, kind: FrameKind) -> Self {
        State::new(owner, kind, 1)
    }

    const fn owner(self) -> DomId {
        let [.., a, b] = (self.0 << 1).to_le_bytes();
        DomId(u16::from_le_bytes([a, b]))
    }

    /// Whether it is RAM of a domain, and no frame of the kernel.
    const fn is_ram(self) -> bool {
        self.0 & RAM != 0
    }

    /// Whether there are references.
    const fn is_live(self) -> bool {
        self.0 & REFERENCED != 0
    }

    /// Whether `owner` may have one more reference: the frame is live, the owner's, of a kind that guests see, and
    /// not at the end of its count. All in one comparison, since every pointer of a guest comes here.
    const fn can_be_shared_with(self, owner: Owner) -> bool {
        self.0 & !(RAM | COUNT) == owner.0
    }
}

/// What the frame table keeps for each frame: 16 bytes.
#[derive(Debug)]
pub struct FrameEntry {
    /// See [`State`]. Changed by anyone who holds a reference, or by the allocator under its lock. Who lets go releases what
    /// was done with the frame; who frees it or finds itself alone acquires that, and the lock hands it on.
    state: AtomicU64,
    /// What the allocator's tree notes of the frame, and of the block whose middle it starts; relaxed under its lock.
    nodes: [AtomicU32; 2],
}

impl Default for FrameEntry {
    /// A frame that nobody may have: a hole in RAM, the image, firmware's memory.
    fn default() -> Self {
        FrameEntry { state: AtomicU64::new(State::RESERVED.0), nodes: Default::default() }
    }
}

const _: () = assert!(size_of::<FrameEntry>() == 16);

impl FrameEntry {
    fn is_reserved(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::RESERVED.0
    }

    fn is_clean(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::CLEAN.0
    }
}

/// The entries of all frames from the first to the last byte of RAM, by the number of the frame.
#[derive(Clone, Copy)]
struct Entries {
    all: &'static [FrameEntry],
    first: u64,
}

impl Entries {
    fn at(&self, number: u64) -> Option<&'static FrameEntry> {
        // A number below the first wraps around to an index far behind the end.
        self.all.get(usize::try_from(number.wrapping_sub(self.first)).ok()?)
    }

    /// The entries of `count` frames; none if there are not as many.
    fn block(&self, number: u64, count: u64) -> &'static [FrameEntry] {
        let index = |number: u64| usize::try_from(number.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        self.all.get(index(number)..index(number.saturating_add(count))).unwrap_or(&[])
    }

    fn of(&self, pa: Pa) -> Option<&'static FrameEntry> {
        self.at(pa.number())
    }
}

/// All frames from the first to the last byte of RAM, and the allocator over those that are free.
pub struct FrameTable {
    entries: Entries,
    /// Guards the tree of the free frames, whose nodes are in the entries.
    buddy: SpinMutex<Buddy>,
    /// By the remainder of the owner's id, as domains are; an id in use has a quota of its own.
    quotas: &'static [Quota; MAX_DOMAINS],
    /// vCPUs that exist, those that still stand in a queue of a pCPU when their domain is gone too: as many as queues hold.
    /// Relaxed: who makes some counts them first and then looks, and of several that do so the last one sees all.
    pub vcpus: AtomicUsize,
}

/// What stands for a frame that is outside of the table.
static NOTHING: FrameEntry =
    FrameEntry { state: AtomicU64::new(State::RESERVED.0), nodes: [const { AtomicU32::new(0) }; 2] };

/// The frames of those who have no quota.
static NOBODYS: Quota = Quota::new(u64::MAX);

impl FrameTable {
    /// A table whose first entry stands for the frame at `base`. All frames start out reserved.
    pub const fn new(all: &'static [FrameEntry], base: Pa, quotas: &'static [Quota; MAX_DOMAINS]) -> Self {
        let entries = Entries { all, first: base.number() };
        FrameTable { entries, buddy: SpinMutex::new(Buddy::new(entries)), quotas, vcpus: AtomicUsize::new(0) }
    }

    /// Hands reserved frames to the allocator, in the largest blocks that are aligned; a block that is not reserved in
    /// whole, or not RAM, is left as it is.
    pub fn release_range(&self, from: Pa, pages: u64) {
        let (mut at, end) = (from.number(), from.number() + pages);
        while at < end {
            let order = at.trailing_zeros().min((end - at).ilog2());
            self.buddy.lock().release(at, order);
            at += 1 << order;
        }
    }

    /// Takes contiguous frames on the owner's quota, aligned to their size (rounded up to a power of two); each has one
    /// reference of its own and is returned on its own. The contents are whatever the last owner left: the caller
    /// overwrites them. `ENOMEM` if no such block is left, for anybody or for this owner.
    pub fn alloc(&self, owner: DomId, kind: FrameKind, pages: u32) -> Result<Pa, XenError> {
        if pages == 1 {
            return self.alloc_page(owner, kind);
        }
        self.alloc_known(owner, kind, pages).map(|(block, _)| block)
    }

    /// As [`alloc`](Self::alloc), and whether the contents are zero already, up to the point of coherency.
    pub fn alloc_known(&self, owner: DomId, kind: FrameKind, pages: u32) -> Result<(Pa, bool), XenError> {
        let (quota, live) = self.charge(owner, kind, pages)?;
        self.alloc_charged(quota, live, pages)
    }

    /// The same for one frame, in few steps if one was freed lately.
    #[inline]
    pub fn alloc_page(&self, owner: DomId, kind: FrameKind) -> Result<Pa, XenError> {
        let (quota, live) = self.charge(owner, kind, 1)?;
        let rested = self.buddy.lock().resting.pop();
        match rested.and_then(|number| Some((number, self.entries.at(number)?))) {
            Some((number, entry)) => {
                entry.state.store(live.0, Ordering::Release);
                Ok(Pa::from_number(number))
            }
            None => self.alloc_charged(quota, live, 1).map(|(page, _)| page),
        }
    }

    /// Charges frames to their owner; returns the quota, and the state in which they will be.
    #[inline(always)]
    fn charge(&self, owner: DomId, kind: FrameKind, pages: u32) -> Result<(&'static Quota, State), XenError> {
        let (quota, live) = (self.quota(owner), State::live(owner, kind));
        if quota.charge(live.is_ram(), pages.into()) { Ok((quota, live)) } else { Err(XenError::NoMem) }
    }

    #[cold]
    fn alloc_charged(&self, quota: &Quota, live: State, pages: u32) -> Result<(Pa, bool), XenError> {
        let Some((number, is_clean)) = self.buddy.lock().alloc(pages) else {
            quota.refund(live.is_ram(), pages.into());
            return Err(XenError::NoMem);
        };
        for entry in self.entries.block(number, pages.into()) {
            entry.state.store(live.0, Ordering::Release);
        }
        Ok((Pa::from_number(number), is_clean))
    }

    /// Makes reserved frames RAM of `owner` where they are, each with one reference of its own: Dom0's RAM is one piece,
    /// larger than any block. All of them or none (`ENOMEM`).
    pub fn adopt(&self, from: Pa, pages: u64, owner: DomId) -> Result<(), XenError> {
        // Nobody but the allocator changes reserved frames.
        let mut buddy = self.buddy.lock();
        let block = self.entries.block(from.number(), pages);
        if block.is_empty() || !block.iter().all(FrameEntry::is_reserved) || !self.quota(owner).charge(true, pages) {
            return Err(XenError::NoMem);
        }
        let live = State::live(owner, FrameKind::Ram).0;
        block.iter().for_each(|entry| entry.state.store(live, Ordering::Release));
        buddy.total += pages;
        Ok(())
    }

    /// What a domain may have, and has.
    pub fn quota(&self, owner: DomId) -> &'static Quota {
        if owner.is_ordinary() { &self.quotas[usize::from(owner.0) % MAX_DOMAINS] } else { &NOBODYS }
    }

    /// A reference on the frame, if `owner` owns it and it is of a kind that guests see.
    // In line, so that the reference is not handed over through memory.
    #[inline(always)]
    pub fn get(&'static self, pa: Pa, owner: impl Into<Owner>) -> Option<FrameRef> {
        let (entry, owner) = (self.entries.of(pa)?, owner.into());
        let mut raw = entry.state.load(Ordering::Relaxed);
        // Only pCPUs that count on the same frame at the same moment make this go round again.
        while State(raw).can_be_shared_with(owner) {
            match entry.state.compare_exchange_weak(raw, raw + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(FrameRef { table: self, entry, pa: pa.page() }),
                Err(now) => raw = now,
            }
        }
        None
    }

    /// The reference that was handed to a table which [kept](FrameRef::keep) the address, or that [`alloc`](Self::alloc)
    /// gave.
    pub fn kept(&'static self, pa: Pa) -> FrameRef {
        FrameRef { table: self, entry: self.entries.of(pa).unwrap_or(&NOTHING), pa }
    }

    /// Who owns the frame now; an id that no domain has if nobody does.
    pub fn owner(&self, pa: Pa) -> DomId {
        self.entries.of(pa).map_or(NOBODY, |entry| State(entry.state.load(Ordering::Acquire)).owner())
    }

    /// Drops a reference; the last one frees the frame.
    #[inline]
    pub fn put(&self, pa: Pa) {
        if let Some(entry) = self.entries.of(pa) {
            self.drop_reference(pa, entry);
        }
    }

    #[inline]
    fn drop_reference(&self, pa: Pa, entry: &FrameEntry) {
        let left = State(entry.state.fetch_sub(1, Ordering::AcqRel).wrapping_sub(1));
        if !left.is_live() {
            self.free(pa, entry, left);
        }
    }

    /// What there is to do when a reference was dropped and none is left in `state`.
    #[cold]
    fn free(&self, pa: Pa, entry: &FrameEntry, state: State) {
        if state.0 & (REFERENCED - 1) != REFERENCED - 1 {
            // There was none to drop; that is a mistake of ours, which must not spread into the kind.
            entry.state.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.quota(state.owner()).refund(state.is_ram(), 1);
        entry.state.store(State::FREE.0, Ordering::Relaxed);
        self.buddy.lock().free(pa.number());
    }

    /// First half of giving a page back, which nobody else may use: no new reference on it can be taken from now on. The
    /// one that is left is for the caller, who removes the mapping and waits for the TLBs before dropping it.
    pub fn withdraw(&'static self, pa: Pa, owner: impl Into<Owner>) -> Option<FrameRef> {
        let live = owner.into().0 | RAM;
        let leaving = live & !SEEN_BY_GUESTS;
        let entry = self.entries.of(pa)?;
        entry.state.compare_exchange(live, leaving, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(FrameRef { table: self, entry, pa })
    }

    /// A dying domain lets go of its page: it belongs to nobody from now on, and is free when the last peer that
    /// still maps it lets go too.
    pub fn abandon(&self, pa: Pa) {
        let Some(entry) = self.entries.of(pa) else { return };
        let before = State(entry.state.fetch_or(u64::from(NOBODY.0) << OWNER_SHIFT, Ordering::AcqRel));
        self.quota(before.owner()).refund(before.is_ram(), 1);
        self.put(pa);
    }

    /// Frames that are RAM for use by domains and kernel objects, and those of them that are free.
    pub fn pages(&self) -> (u64, u64) {
        let buddy = self.buddy.lock();
        (buddy.total, buddy.free_pages())
    }

    /// First byte behind the last frame.
    pub fn end(&self) -> Pa {
        Pa::from_number(self.entries.first + self.entries.all.len() as u64)
    }
}

/// A frame that cannot go away while this lives.
pub struct FrameRef {
    table: &'static FrameTable,
    /// Where it is counted, so that dropping it looks for nothing.
    entry: &'static FrameEntry,
    pa: Pa,
}

impl FrameRef {
    /// First byte of the frame.
    pub fn pa(&self) -> Pa {
        self.pa
    }

    /// Hands the reference over to a table that keeps the address; it is dropped with [`FrameTable::put`],
    /// or comes back with [`FrameTable::kept`].
    pub fn keep(self) -> Pa {
        let pa = self.pa;
        core::mem::forget(self);
        pa
    }
}

impl Drop for FrameRef {
    #[inline]
    fn drop(&mut self) {
        self.table.drop_reference(self.pa, self.entry);
    }
}
