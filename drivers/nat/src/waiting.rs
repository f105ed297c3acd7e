//! Frames whose receiver's Ethernet address is being asked for: the latest few of each sender for each, until it answers
//! (RFC 1122, section 2.3.2.2).
//!
//! A frame is copied at once, since its sender does not keep its pages for so long. It is charged to the port of the bridge inside
//! by which it came, or to the strangers outside: when there is no room, who has most frames here loses the oldest.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use driver_api::DmaMemory;
use driver_api::gather::Gather;
use driver_api::net::{CopyGrants, Frame, HEAD, Offload, Piece, own_pieces};

use crate::face::Facing;
use crate::table::Owner;
use crate::translate::STRANGERS;

/// Frames that wait at most.
const FRAMES: usize = 32;
/// Frames of one sender that wait for one receiver at most.
const EACH: usize = 3;
/// The longest frame that waits: what begins a conversation is not longer.
const LONGEST: usize = 2048;
/// Seconds for which an answer is waited for.
const PATIENCE: u64 = 3;
/// Bytes of memory for the frames.
pub(crate) const WAITING_MEMORY: usize = FRAMES * LONGEST;

/// Whose answer is waited for: the side of the router, and the address there.
pub(crate) type Receiver = (Facing, Ipv4Addr);

/// A frame that waits.
pub(crate) struct Waiter {
    /// Who it is for.
    receiver: Receiver,
    /// What was left to its receiver.
    offload: Offload,
    /// Who it is charged to.
    source: Owner,
    since: u64,
    /// Where it lies, and its length.
    slot: usize,
    len: usize,
}

/// The frames that wait.
pub(crate) struct Waiting<M> {
    memory: Rc<M>,
    /// Where the frames' memory starts.
    start: usize,
    free: Vec<usize>,
    /// From the oldest to the latest.
    waiters: Vec<Waiter>,
}

impl<M: DmaMemory> Waiting<M> {
    /// Nobody waits yet; frames lie in the [`WAITING_MEMORY`] bytes from `start` on.
    pub(crate) fn new(memory: Rc<M>, start: usize) -> Self {
        Waiting { memory, start, free: (0..FRAMES).collect(), waiters: Vec::with_capacity(FRAMES) }
    }

    /// Keeps a frame with `head` in place of its own. Returns how many frames were lost by it, itself or others.
    pub(crate) fn keep(
        &mut self,
        copier: &impl CopyGrants,
        frame: &Frame<'_>,
        head: &[u8],
        receiver: Receiver,
        now: u64,
    ) -> u64 {
        let len = frame.len as usize;
        if !(head.len()..=LONGEST).contains(&len) {
            return 1;
        }
        let source = if receiver.0 == Facing::Inside { STRANGERS } else { frame.source };
        let lost = self.make_room(receiver, source);
        let Some(slot) = self.free.pop() else { return lost + 1 };
        let start = self.start + slot * LONGEST;
        let (mut gather, mut came) = (Gather::default(), false);
        if gather.take(frame, own_pieces(&*self.memory, start, len), ()).is_ok() {
            gather.fetch(copier, |(), _, whole| came = whole);
        }
        if !came {
            self.free.push(slot);
            return lost + 1;
        }
        self.memory.copy_in(start, head);
        self.waiters.push(Waiter { receiver, offload: frame.offload, source, since: now, slot, len });
        lost
    }

    /// Makes room for a frame from `source`. Returns how many were lost.
    fn make_room(&mut self, receiver: Receiver, source: Owner) -> u64 {
        let mut same = self.waiters.iter().filter(|waiter| (waiter.receiver, waiter.source) == (receiver, source));
        let victim = if same.clone().count() >= EACH {
            same.next().map(|waiter| waiter.slot)
        } else if self.free.is_empty() {
            let count = |port: Owner| self.waiters.iter().filter(|waiter| waiter.source == port).count();
            let rank = |waiter: &&Waiter| (count(waiter.source), waiter.source == source);
            let most = self.waiters.iter().max_by_key(rank).map(|waiter| waiter.source);
            self.waiters.iter().find(|waiter| Some(waiter.source) == most).map(|waiter| waiter.slot)
        } else {
            None
        };
        let Some(victim) = victim else { return 0 };
        self.waiters.retain(|waiter| waiter.slot != victim);
        self.free.push(victim);
        1
    }

    /// The frames for a receiver that has answered, from the oldest on. Each is given back with [`Self::release`].
    pub(crate) fn take(&mut self, receiver: Receiver) -> Vec<Waiter> {
        self.waiters.extract_if(.., |waiter| waiter.receiver == receiver).collect()
    }

    /// Describes a frame: calls `put` with it, after `change` has been made to its head.
    pub(crate) fn describe<R>(
        &self,
        waiter: &Waiter,
        change: impl FnOnce(&mut [u8]),
        put: impl FnOnce(&Frame<'_>) -> R,
    ) -> R {
        let start = self.start + waiter.slot * LONGEST;
        let mut head = [0; HEAD];
        let head = head.get_mut(..waiter.len.min(HEAD)).unwrap_or_default();
        self.memory.copy_out(start, head);
        change(head);
        self.memory.copy_in(start, head);
        let pieces: Vec<Piece> = own_pieces(&*self.memory, start, waiter.len).collect();
        let len = u32::try_from(waiter.len).unwrap_or(0);
        put(&Frame { head, pieces: &pieces, len, offload: waiter.offload, source: 0 })
    }

    /// Nobody fetches from the frame any more.
    pub(crate) fn release(&mut self, waiter: Waiter) {
        self.free.push(waiter.slot);
    }

    /// Gives up on receivers that have not answered in time. Returns how many frames were lost.
    pub(crate) fn give_up(&mut self, now: u64) -> u64 {
        let late = self.waiters.extract_if(.., |waiter| now.saturating_sub(waiter.since) >= PATIENCE);
        late.map(|waiter| self.free.push(waiter.slot)).fold(0, |lost, ()| lost + 1)
    }

    /// Forgets what came by a port that is gone, whose number may be another's next. Returns how many frames were lost.
    pub(crate) fn forget(&mut self, source: Owner) -> u64 {
        let gone = self.waiters.extract_if(.., |waiter| waiter.source == source);
        gone.map(|waiter| self.free.push(waiter.slot)).fold(0, |lost, ()| lost + 1)
    }

    /// Those who have not answered yet, each once.
    pub(crate) fn receivers(&self) -> Vec<Receiver> {
        let mut receivers: Vec<Receiver> = self.waiters.iter().map(|waiter| waiter.receiver).collect();
        receivers.sort_unstable();
        receivers.dedup();
        receivers
    }
}
