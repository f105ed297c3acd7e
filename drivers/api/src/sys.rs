//! Memory that somebody else writes too, behind a raw pointer.
//!
//! Every access is atomic or volatile and bounds-checked, so that code above needs no `unsafe` and a
//! concurrent writer (a hostile guest, a device) can change values but not break the language's rules.
#![allow(unsafe_code, reason = "the one place that dereferences shared memory")]

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use crate::{BusAddr, DmaMemory, MappedPage, PAGE_SIZE, SharedPage};

/// A stretch of mapped memory that other domains or devices access at the same time.
///
/// It does not own the mapping: whoever made it ends the mapping after the last use of the window.
#[derive(Debug)]
pub struct Window {
    base: NonNull<u8>,
    len: usize,
    bus: BusAddr,
}

impl Window {
    /// Wraps `len` bytes at `base`, which devices find at `bus`.
    ///
    /// # Safety
    /// For as long as the window exists, the memory must be mapped readable (and writable, if a store
    /// is ever made), normal and coherent, aligned to 8 bytes, and no Rust reference to any of it may be
    /// live.
    pub const unsafe fn new(base: NonNull<u8>, len: usize, bus: BusAddr) -> Self {
        Self { base, len, bus }
    }

    /// Where the memory is mapped.
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The address of an aligned field of `size` bytes, if it lies in the window.
    fn field(&self, offset: usize, size: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(size)?;
        if end > self.len || !offset.is_multiple_of(size) {
            return None;
        }
        // SAFETY: `offset < len`, and `new`'s caller vouched for `len` bytes at `base`.
        Some(unsafe { self.base.add(offset) })
    }

    fn atomic_u16(&self, offset: usize) -> Option<&AtomicU16> {
        let field = self.field(offset, 2)?;
        // SAFETY: in bounds and aligned (`field`), mapped and only accessed atomically (`new`).
        Some(unsafe { AtomicU16::from_ptr(field.cast().as_ptr()) })
    }

    fn atomic_u32(&self, offset: usize) -> Option<&AtomicU32> {
        let field = self.field(offset, 4)?;
        // SAFETY: as in `atomic_u16`.
        Some(unsafe { AtomicU32::from_ptr(field.cast().as_ptr()) })
    }

    fn atomic_u64(&self, offset: usize) -> Option<&AtomicU64> {
        let field = self.field(offset, 8)?;
        // SAFETY: as in `atomic_u16`.
        Some(unsafe { AtomicU64::from_ptr(field.cast().as_ptr()) })
    }

    /// The `len` bytes from `offset` on, in their order: single ones up to a word's place, words, and single ones behind them.
    /// Checked once for all of them, since that is most of what a short copy costs. `None` if they do not lie in the window.
    fn fields(&self, offset: usize, len: usize) -> Option<(&[AtomicU8], &[AtomicU64], &[AtomicU8])> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        let head = len.min(offset.wrapping_neg() % 8);
        let (words, tail) = ((len - head) / 8, (len - head) % 8);
        // SAFETY: `new`'s caller vouched for the window, that it is mapped and aligned to 8 bytes, so that words begin behind
        // `head`; head, words and tail are `len` bytes, which were checked to lie in it, and are only accessed atomically.
        unsafe {
            let first = self.base.add(offset);
            let (word, last) = (first.add(head), first.add(head + words * 8));
            Some((
                slice::from_raw_parts(first.cast().as_ptr(), head),
                slice::from_raw_parts(word.cast().as_ptr(), words),
                slice::from_raw_parts(last.cast().as_ptr(), tail),
            ))
        }
    }

    /// The bytes as words of four, if they are few and lie so: the slots of rings are, and most of a short copy by the rules of
    /// [`Self::fields`] would be its parts.
    fn few_fields(&self, offset: usize, len: usize) -> Option<&[AtomicU32]> {
        let whole = (offset | len).is_multiple_of(4) && len <= FEW;
        if !whole || offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: as in `fields`; the memory is aligned to 8 bytes and `offset` to 4.
        Some(unsafe { slice::from_raw_parts(self.base.add(offset).cast().as_ptr(), len / 4) })
    }

    /// Reads `into.len()` bytes, eight at a time where alignment allows; bytes past the end read as 0.
    fn read(&self, offset: usize, into: &mut [u8]) {
        if let Some(fields) = self.few_fields(offset, into.len())
            // SAFETY: every four bytes are a `u32`, and a `u32` is four bytes.
            && let ([], words, []) = unsafe { into.align_to_mut::<u32>() }
        {
            for (field, word) in fields.iter().zip(words) {
                *word = field.load(Ordering::Relaxed).to_le();
            }
            return;
        }
        let Some((head, words, tail)) = self.fields(offset, into.len()) else {
            let (inside, past) = into.split_at_mut(into.len().min(self.len.saturating_sub(offset)));
            past.fill(0);
            if !inside.is_empty() {
                self.read(offset, inside);
            }
            return;
        };
        let (into_head, body) = into.split_at_mut(head.len());
        let (into_words, into_tail) = body.as_chunks_mut::<8>();
        load_bytes(head, into_head);
        load_words(words, into_words);
        load_bytes(tail, into_tail);
    }

    /// Writes `from`, eight bytes at a time where alignment allows; what lies past the end is dropped.
    fn write(&self, offset: usize, from: &[u8]) {
        if let Some(fields) = self.few_fields(offset, from.len())
            // SAFETY: every four bytes are a `u32`.
            && let ([], words, []) = unsafe { from.align_to::<u32>() }
        {
            for (field, word) in fields.iter().zip(words) {
                field.store(u32::from_le(*word), Ordering::Relaxed);
            }
            return;
        }
        let Some((head, words, tail)) = self.fields(offset, from.len()) else {
            let (inside, _past) = from.split_at(from.len().min(self.len.saturating_sub(offset)));
            if !inside.is_empty() {
                self.write(offset, inside);
            }
            return;
        };
        let (from_head, body) = from.split_at(head.len());
        let (from_words, from_tail) = body.as_chunks::<8>();
        store_bytes(head, from_head);
        store_words(words, from_words);
        store_bytes(tail, from_tail);
    }
}

/// Bytes that are moved as words of four at most: a slot of a network ring has 4 to 12.
const FEW: usize = 16;

fn load_bytes(fields: &[AtomicU8], into: &mut [u8]) {
    for (field, byte) in fields.iter().zip(into) {
        *byte = field.load(Ordering::Relaxed);
    }
}

fn store_bytes(fields: &[AtomicU8], from: &[u8]) {
    for (field, byte) in fields.iter().zip(from) {
        field.store(*byte, Ordering::Relaxed);
    }
}

/// Words that are moved in a turn of the loops below; the compiler neither joins nor unrolls atomic accesses itself.
const TURN: usize = 4;

/// Loads each field into its place. The bare-metal target moves bytes that may lie anywhere one by one, so places that
/// are aligned, as those of buffers are, are written as words.
fn load_words(fields: &[AtomicU64], into: &mut [[u8; 8]]) {
    // SAFETY: every eight bytes are a `u64`, and a `u64` is eight bytes.
    let (before, words, _) = unsafe { into.align_to_mut::<u64>() };
    if !before.is_empty() {
        for (field, word) in fields.iter().zip(into) {
            *word = field.load(Ordering::Relaxed).to_le_bytes();
        }
        return;
    }
    let ((turns, rest), (field_turns, field_rest)) = (words.as_chunks_mut::<TURN>(), fields.as_chunks::<TURN>());
    for ([a, b, c, d], [from_a, from_b, from_c, from_d]) in turns.iter_mut().zip(field_turns) {
        *a = from_a.load(Ordering::Relaxed).to_le();
        *b = from_b.load(Ordering::Relaxed).to_le();
        *c = from_c.load(Ordering::Relaxed).to_le();
        *d = from_d.load(Ordering::Relaxed).to_le();
    }
    for (word, field) in rest.iter_mut().zip(field_rest) {
        *word = field.load(Ordering::Relaxed).to_le();
    }
}

/// Stores each field from its place, as [`load_words`] does the reverse.
fn store_words(fields: &[AtomicU64], from: &[[u8; 8]]) {
    // SAFETY: every eight bytes are a `u64`.
    let (before, words, _) = unsafe { from.align_to::<u64>() };
    if !before.is_empty() {
        for (field, word) in fields.iter().zip(from) {
            field.store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
        return;
    }
    let ((turns, rest), (field_turns, field_rest)) = (words.as_chunks::<TURN>(), fields.as_chunks::<TURN>());
    for ([a, b, c, d], [to_a, to_b, to_c, to_d]) in turns.iter().zip(field_turns) {
        to_a.store(u64::from_le(*a), Ordering::Relaxed);
        to_b.store(u64::from_le(*b), Ordering::Relaxed);
        to_c.store(u64::from_le(*c), Ordering::Relaxed);
        to_d.store(u64::from_le(*d), Ordering::Relaxed);
    }
    for (word, field) in rest.iter().zip(field_rest) {
        field.store(u64::from_le(*word), Ordering::Relaxed);
    }
}

impl SharedPage for Window {
    fn load_u32(&self, offset: usize) -> u32 {
        self.atomic_u32(offset).map_or(0, |field| field.load(Ordering::Acquire))
    }

    fn store_u32(&self, offset: usize, value: u32) {
        if let Some(field) = self.atomic_u32(offset) {
            field.store(value, Ordering::Release);
        }
    }

    fn load_u64(&self, offset: usize) -> u64 {
        self.atomic_u64(offset).map_or(0, |field| field.load(Ordering::Relaxed))
    }

    fn store_u64(&self, offset: usize, value: u64) {
        if let Some(field) = self.atomic_u64(offset) {
            field.store(value, Ordering::Relaxed);
        }
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        self.read(offset, into);
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.write(offset, from);
    }

    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
}

impl MappedPage for Window {
    fn bus_addr(&self) -> BusAddr {
        debug_assert!(self.len >= PAGE_SIZE, "a granted page is a whole page");
        self.bus
    }
}

impl DmaMemory for Window {
    fn bus_addr(&self) -> BusAddr {
        self.bus
    }

    fn len(&self) -> usize {
        self.len
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        self.read(offset, into);
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.write(offset, from);
    }

    fn load_u16(&self, offset: usize) -> u16 {
        self.atomic_u16(offset).map_or(0, |field| field.load(Ordering::Acquire))
    }

    fn store_u16(&self, offset: usize, value: u16) {
        if let Some(field) = self.atomic_u16(offset) {
            field.store(value, Ordering::Release);
        }
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.atomic_u32(offset).map_or(0, |field| field.load(Ordering::Relaxed))
    }

    fn store_u64(&self, offset: usize, value: u64) {
        SharedPage::store_u64(self, offset, value);
    }

    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
}
