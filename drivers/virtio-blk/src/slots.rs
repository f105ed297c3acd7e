//! Who waits for which request.
//!
//! A slot whose future was dropped stays taken until the device has answered: its memory is the device's till then.

use alloc::vec::Vec;
use core::task::Waker;

/// The state of one slot.
#[derive(Debug)]
enum Slot {
    Free,
    /// The device has it; the future that waits, once it has been polled.
    Running(Option<Waker>),
    /// The device has it and nobody waits any more.
    Orphaned,
    /// It is over; `true` if the device answered, `false` if it was shut down.
    Over(bool),
}

/// All slots of a queue.
#[derive(Debug)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl Slots {
    /// `count` free slots.
    pub fn new(count: u16) -> Self {
        Self { slots: (0..count).map(|_| Slot::Free).collect(), free: (0..count).rev().collect() }
    }

    /// Takes a slot for a request that is about to be submitted.
    pub fn take(&mut self) -> Option<u16> {
        let slot = self.free.pop()?;
        self.set(slot, Slot::Running(None));
        Some(slot)
    }

    /// Whether the request is over: `Some(true)` if the device answered it. Remembers the waker if not.
    pub fn poll(&mut self, slot: u16, waker: &Waker) -> Option<bool> {
        match self.slots.get_mut(usize::from(slot)) {
            Some(Slot::Running(waiting)) => {
                *waiting = Some(waker.clone());
                None
            }
            Some(Slot::Over(answered)) => Some(*answered),
            Some(Slot::Free | Slot::Orphaned) | None => Some(false),
        }
    }

    /// The device has answered. `false` if it had no such request.
    pub fn finish(&mut self, slot: u16) -> bool {
        match self.slots.get_mut(usize::from(slot)) {
            Some(state @ Slot::Running(_)) => {
                if let Slot::Running(Some(waker)) = core::mem::replace(state, Slot::Over(true)) {
                    waker.wake();
                }
                true
            }
            Some(Slot::Orphaned) => {
                self.release(slot);
                true
            }
            Some(Slot::Free | Slot::Over(_)) | None => false,
        }
    }

    /// Ends every request: the device was shut down and touches no memory any more.
    pub fn abandon(&mut self) {
        for slot in 0..self.slots.len() {
            let Ok(slot) = u16::try_from(slot) else { return };
            match self.slots.get_mut(usize::from(slot)) {
                Some(state @ Slot::Running(_)) => {
                    if let Slot::Running(Some(waker)) = core::mem::replace(state, Slot::Over(false)) {
                        waker.wake();
                    }
                }
                Some(Slot::Orphaned) => self.release(slot),
                Some(Slot::Free | Slot::Over(_)) | None => {}
            }
        }
    }

    /// The future lets go of the slot, whether the request is over or not.
    pub fn let_go(&mut self, slot: u16) {
        match self.slots.get_mut(usize::from(slot)) {
            Some(state @ Slot::Running(_)) => *state = Slot::Orphaned,
            Some(Slot::Over(_)) => self.release(slot),
            Some(Slot::Free | Slot::Orphaned) | None => {}
        }
    }

    fn release(&mut self, slot: u16) {
        self.set(slot, Slot::Free);
        self.free.push(slot);
    }

    fn set(&mut self, slot: u16, state: Slot) {
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            *place = state;
        }
    }
}
