//! The shared interrupts of a domain: the first 32, which each domain has, in its own object, and as many more as it was made
//! with in frames of their own.

use heapless::Vec;
use hypercall_abi::control::MAX_SPIS;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use super::PRIVATE;
use super::bank::Bank;
use crate::hw::Hw;

/// Banks that fill a frame, and the most frames.
const CHUNK: u32 = 15;
const MAX_CHUNKS: usize = (MAX_SPIS.div_ceil(32) - 1).div_ceil(CHUNK) as usize;
type Chunk = [Bank; CHUNK as usize];
const _: () = assert!(size_of::<Chunk>() <= 4088);

/// Where the numbers of interrupts end; the last bank has four more.
pub(super) const LIMIT: u32 = PRIVATE + MAX_SPIS;

pub(super) struct Spis<H: Hw> {
    pub(super) first: Bank,
    further: Vec<H::Shared<Chunk>, MAX_CHUNKS>,
    /// Banks there are.
    pub(super) banks: u32,
}

impl<H: Hw> Spis<H> {
    /// At least `count` shared interrupts of domain `id`.
    pub(super) fn new(id: DomId, count: u32, linked: u32, group1: u32) -> Result<Self, XenError> {
        let banks = count.min(MAX_SPIS).div_ceil(32).max(1);
        let mut bases = (PRIVATE..).step_by(32);
        let mut bank = || Bank::new(bases.next().unwrap_or(0), linked, group1);
        let mut spis = Spis { first: bank(), further: Vec::new(), banks };
        for _ in (1..banks).step_by(CHUNK as usize) {
            let chunk = H::share(id, core::array::from_fn(|_| bank()))?;
            spis.further.push(chunk).map_err(|_| XenError::NoMem)?;
        }
        Ok(spis)
    }

    /// The bank of a shared interrupt.
    pub(super) fn bank(&mut self, irq: u32) -> Option<&mut Bank> {
        let n = irq.checked_sub(PRIVATE)? / 32;
        match n.checked_sub(1) {
            None => Some(&mut self.first),
            Some(more) if n < self.banks => {
                let chunk = self.further.get_mut((more / CHUNK) as usize)?;
                H::only(chunk)?.get_mut((more % CHUNK) as usize)
            }
            Some(_) => None,
        }
    }

    /// All banks.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Bank> {
        let further = self.further.iter_mut().filter_map(H::only).flatten();
        [&mut self.first].into_iter().chain(further).take(self.banks as usize)
    }
}
