//! The machine's frames: who owns each, as what, and how many use it.
//!
//! One atomic word per frame holds owner, kind and references together, so that "still theirs, and now one more
//! user" is one step: a frame cannot change hands between the check and the use. The last reference frees the
//! frame, whoever drops it; nothing else does.

mod buddy;
mod state;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hypercall_abi::ids::DomId;
use spin::mutex::SpinMutex;

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, Pa};
use buddy::Buddy;
pub use buddy::MAX_ORDER;
pub use state::FrameKind;
use state::State;

/// What the frame table keeps for each frame: 16 bytes.
#[derive(Debug)]
pub struct FrameEntry {
    /// See [`State`]. Changed by anyone who holds a reference, or by the allocator under its lock.
    state: AtomicU64,
    /// Next block on a free list; guarded by the allocator's lock.
    next: AtomicU32,
    /// Previous block on a free list, guarded by the allocator's lock; in a live frame the owner's note.
    prev: AtomicU32,
}

impl Default for FrameEntry {
    /// A frame that nobody may have: a hole in RAM, the image, firmware's memory.
    fn default() -> Self {
        FrameEntry {
            state: AtomicU64::new(State::RESERVED.raw()),
            next: AtomicU32::new(buddy::NONE),
            prev: AtomicU32::new(buddy::NONE),
        }
    }
}

const _: () = assert!(size_of::<FrameEntry>() == 16);

impl FrameEntry {
    /// Drops a reference; true if it was the last.
    #[inline]
    fn drop_reference(&self) -> bool {
        let before = State::from_raw(self.state.fetch_sub(1, Ordering::AcqRel)).references();
        if before == 0 {
            // There was none to drop; that is a mistake of ours, which must not spread into the kind.
            self.state.fetch_add(1, Ordering::Relaxed);
        }
        before == 1
    }
}

/// No free block of that size is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

/// The frame is not (or no longer) a page that this domain owns and may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongOwner;

/// Someone else still uses the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBusy;

/// All frames from the first to the last byte of RAM, and the allocator over those that are free.
pub struct FrameTable {
    entries: &'static [FrameEntry],
    base: Pa,
    /// Guards the free lists and the links in the entries of free frames.
    buddy: SpinMutex<Buddy>,
    /// Frames that were ever handed to the allocator or adopted.
    total: AtomicU64,
}

impl FrameTable {
    /// A table whose first entry stands for the frame at `base`. All frames start out reserved.
    pub const fn new(entries: &'static [FrameEntry], base: Pa) -> Self {
        let skew = buddy::skew(base);
        FrameTable { entries, base, buddy: SpinMutex::new(Buddy::new(skew)), total: AtomicU64::new(0) }
    }

    /// Hands reserved frames to the allocator; those that are not reserved (or not RAM) are left as they are.
    pub fn release_range(&self, from: Pa, pages: u64) {
        let mut done = 0;
        while done < pages {
            let Some(index) = self.index(from.add(done * PAGE_SIZE)) else { return };
            let mut buddy = self.buddy.lock();
            let order = buddy.order_at(index, pages - done);
            let order = if self.all_reserved(index, order) { order } else { 0 };
            if self.all_reserved(index, order) {
                self.total.fetch_add(1 << order, Ordering::Relaxed);
                buddy.release(self.entries, index, order);
            }
            done += 1 << order;
        }
    }

    fn all_reserved(&self, index: u32, order: u8) -> bool {
        usize::try_from(index)
            .ok()
            .and_then(|first| self.entries.get(first..first + (1usize << order)))
            .is_some_and(|block| block.iter().all(|e| e.state.load(Ordering::Relaxed) == State::RESERVED.raw()))
    }

    /// Makes reserved frames live without passing them through the allocator: memory whose place is fixed, such
    /// as Dom0's. Each gets one reference, as if it had been allocated.
    pub fn adopt(&self, from: Pa, pages: u64, owner: DomId, kind: FrameKind) -> Result<(), WrongOwner> {
        let live = State::live(owner, kind).raw();
        for n in 0..pages {
            let entry = self.entry(from.add(n * PAGE_SIZE)).ok_or(WrongOwner)?;
            entry
                .state
                .compare_exchange(State::RESERVED.raw(), live, Ordering::AcqRel, Ordering::Relaxed)
                .map_err(|_| WrongOwner)?;
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes 2^`order` contiguous frames, aligned to their size; each has one reference of its own and is
    /// returned on its own. The contents are whatever the last owner left: the caller overwrites them.
    pub fn alloc(&self, owner: DomId, kind: FrameKind, order: u8) -> Result<Pa, OutOfFrames> {
        let index = self.buddy.lock().alloc(self.entries, order).ok_or(OutOfFrames)?;
        let first = usize::try_from(index).map_err(|_| OutOfFrames)?;
        let block = self.entries.get(first..first + (1usize << order)).ok_or(OutOfFrames)?;
        let live = State::live(owner, kind).raw();
        for entry in block {
            entry.prev.store(0, Ordering::Relaxed);
            entry.state.store(live, Ordering::Release);
        }
        Ok(self.base.add(u64::from(index) * PAGE_SIZE))
    }

    /// A reference on the frame, if `owner` owns it and it is of a kind that guests see.
    #[inline]
    pub fn get(&'static self, pa: Pa, owner: DomId) -> Result<FrameRef, WrongOwner> {
        let entry = self.entry(pa).ok_or(WrongOwner)?;
        let mut raw = entry.state.load(Ordering::Relaxed);
        // Only pCPUs that count on the same frame at the same moment make this go round again.
        loop {
            if !State::from_raw(raw).can_be_shared_with(owner) {
                return Err(WrongOwner);
            }
            match entry.state.compare_exchange_weak(raw, raw + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(FrameRef { entry, table: self, pa: pa.page() }),
                Err(now) => raw = now,
            }
        }
    }

    /// Drops a reference; the last one frees the frame.
    #[inline]
    pub fn put(&self, pa: Pa) {
        if let Some(entry) = self.entry(pa)
            && entry.drop_reference()
        {
            self.free(pa);
        }
    }

    #[cold]
    fn free(&self, pa: Pa) {
        if let Some(index) = self.index(pa) {
            self.buddy.lock().free(self.entries, index);
        }
    }

    /// First half of giving a page back: nobody can take a new reference from now on. The caller removes the
    /// mapping, waits for the TLBs and then calls [`put`](Self::put).
    pub fn withdraw(&self, pa: Pa, owner: DomId) -> Result<(), FrameBusy> {
        let entry = self.entry(pa).ok_or(FrameBusy)?;
        let live = State::live(owner, FrameKind::Ram).raw();
        let leaving = State::live(owner, FrameKind::Leaving).raw();
        entry
            .state
            .compare_exchange(live, leaving, Ordering::AcqRel, Ordering::Relaxed)
            .map(|_| ())
            .map_err(|_| FrameBusy)
    }

    /// A dying domain lets go of its page: it belongs to nobody from now on, and is free when the last peer that
    /// still maps it lets go too.
    pub fn abandon(&self, pa: Pa) {
        let Some(entry) = self.entry(pa) else { return };
        let _ = entry
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |raw| Some(State::from_raw(raw).orphaned().raw()));
        self.put(pa);
    }

    /// A number that whoever allocated the frame keeps with it; zero at first.
    pub fn note(&self, pa: Pa) -> Option<&AtomicU32> {
        self.entry(pa).map(|entry| &entry.prev)
    }

    /// What the frame is now.
    pub fn kind(&self, pa: Pa) -> FrameKind {
        self.state(pa).kind()
    }

    /// Who owns the frame now; `DomId::INVALID` if nobody does.
    pub fn owner(&self, pa: Pa) -> DomId {
        self.state(pa).owner()
    }

    /// References on the frame now.
    pub fn references(&self, pa: Pa) -> u32 {
        self.state(pa).references()
    }

    /// Frames that are RAM for use by domains and kernel objects.
    pub fn total_pages(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Frames that are free.
    pub fn free_pages(&self) -> u64 {
        self.buddy.lock().free_pages()
    }

    /// First byte behind the last frame.
    pub fn end(&self) -> Pa {
        self.base.add(self.entries.len() as u64 * PAGE_SIZE)
    }

    fn state(&self, pa: Pa) -> State {
        self.entry(pa).map_or(State::RESERVED, |entry| State::from_raw(entry.state.load(Ordering::Acquire)))
    }

    #[inline]
    fn entry(&self, pa: Pa) -> Option<&FrameEntry> {
        // An address below the base wraps around to an index far behind the end.
        let index = pa.raw().wrapping_sub(self.base.raw()) >> PAGE_SHIFT;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn index(&self, pa: Pa) -> Option<u32> {
        self.entry(pa)?;
        u32::try_from(pa.raw().wrapping_sub(self.base.raw()) >> PAGE_SHIFT).ok()
    }
}

/// A frame that cannot go away while this lives.
pub struct FrameRef {
    entry: &'static FrameEntry,
    table: &'static FrameTable,
    pa: Pa,
}

impl FrameRef {
    /// First byte of the frame.
    pub fn pa(&self) -> Pa {
        self.pa
    }

    /// Hands the reference over to a table that keeps the address; it is dropped with [`FrameTable::put`].
    pub fn keep(self) -> Pa {
        let pa = self.pa;
        core::mem::forget(self);
        pa
    }
}

impl Drop for FrameRef {
    #[inline]
    fn drop(&mut self) {
        if self.entry.drop_reference() {
            self.table.free(self.pa);
        }
    }
}

impl core::fmt::Debug for FrameRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FrameRef({})", self.pa)
    }
}
