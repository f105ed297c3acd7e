//! The control ring, by which a front end says how it wants frames hashed and what is to be kept mapped (Xen public/io/netif.h, "Control ring").
//!
//! Each request is answered once, with a code of the header's if it makes no sense. What a request names by a grant is
//! mapped, read once into a private copy, and unmapped again before the answer.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use driver_api::{Access, BackRing, EventPort, Grants, MappedPage, PAGE_SIZE, SharedPage};
use embassy_futures::yield_now;
use hypercall_abi::ids::GrantRef;
use hypercall_abi::netif::{CtrlRequest, CtrlResponse, CtrlStatus, CtrlType};
use hypercall_abi::ring::RingOverflow;

use crate::hash::{KEY, MAPPING, Steering};
use crate::mapped::{MOST, Mapped};

/// Requests that are carried out before others have their turn.
const TURN: u32 = 8;

/// What requests are about.
pub(crate) struct Subject<'a, G: Grants> {
    pub(crate) grants: &'a G,
    pub(crate) steering: &'a RefCell<Steering>,
    /// What each queue keeps mapped.
    pub(crate) mapped: &'a [Rc<RefCell<Mapped<G::Page>>>],
}

/// The ring.
pub(crate) struct CtrlRing<P, E> {
    ring: BackRing<P, CtrlRequest, CtrlResponse>,
    events: E,
}

impl<P: MappedPage, E: EventPort> CtrlRing<P, E> {
    /// Takes over the ring.
    pub(crate) fn new(ring: BackRing<P, CtrlRequest, CtrlResponse>, events: E) -> Self {
        CtrlRing { ring, events }
    }

    /// Carries out requests until the ring breaks.
    pub(crate) async fn serve(&mut self, subject: &Subject<'_, impl Grants>) -> RingOverflow {
        loop {
            match self.pass(subject) {
                Ok(true) => {}
                Ok(false) => self.events.wait().await,
                Err(overflow) => return overflow,
            }
            // Events without requests count too.
            yield_now().await;
        }
    }

    /// Carries out some requests; whether there were any.
    fn pass(&mut self, subject: &Subject<'_, impl Grants>) -> Result<bool, RingOverflow> {
        let pending = match self.ring.pending()? {
            0 => self.ring.final_check()?,
            pending => pending,
        };
        for _ in 0..pending.min(TURN) {
            let request = self.ring.take();
            let (status, data) = match carry_out(&request, subject) {
                Ok(data) => (CtrlStatus::Success, data),
                Err(status) => (status, 0),
            };
            let response = CtrlResponse { id: request.id, kind: request.kind, status: status.raw(), data };
            self.ring.put(&response);
        }
        if self.ring.publish() {
            self.events.notify();
        }
        Ok(pending > 0)
    }

    /// The ring's page, to be unmapped.
    pub(crate) fn into_pages(self) -> Vec<P> {
        self.ring.into_pages()
    }
}

/// Carries one request out; the answer's data, or why not.
fn carry_out(request: &CtrlRequest, subject: &Subject<'_, impl Grants>) -> Result<u32, CtrlStatus> {
    let [first, second, third] = request.data;
    let (grants, mut steering) = (subject.grants, subject.steering.borrow_mut());
    let mapped = || subject.mapped.get(first as usize).ok_or(CtrlStatus::InvalidParameter);
    let status = match CtrlType::from_raw(request.kind) {
        Some(CtrlType::SetHashAlgorithm) => steering.set_algorithm(first),
        Some(CtrlType::GetHashFlags) => return steering.types(),
        Some(CtrlType::SetHashFlags) => steering.set_types(first),
        Some(CtrlType::SetHashKey) => {
            let len = second as usize;
            if len > KEY {
                return Err(CtrlStatus::BufferOverflow);
            }
            let key = if len == 0 { Vec::new() } else { read(grants, GrantRef(first), len)? };
            steering.set_key(&key)
        }
        Some(CtrlType::GetHashMappingSize) => return Ok(MAPPING),
        Some(CtrlType::SetHashMappingSize) => steering.set_mapping_size(first),
        Some(CtrlType::SetHashMapping) => {
            if second > MAPPING {
                return Err(CtrlStatus::BufferOverflow);
            }
            let bytes = if second == 0 { Vec::new() } else { read(grants, GrantRef(first), second as usize * 4)? };
            let (entries, _) = bytes.as_chunks::<4>();
            let entries: Vec<u32> = entries.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
            steering.set_mapping(third, &entries)
        }
        Some(CtrlType::GetGrefMappingSize) => return mapped().map(|_| u32::try_from(MOST).unwrap_or(u32::MAX)),
        Some(CtrlType::AddGrefMapping) => return mapped()?.borrow_mut().add(grants, GrantRef(second), third),
        Some(CtrlType::DelGrefMapping) => return mapped()?.borrow_mut().remove(grants, GrantRef(second), third),
        Some(CtrlType::Invalid) | None => CtrlStatus::NotSupported,
    };
    if status == CtrlStatus::Success { Ok(0) } else { Err(status) }
}

/// The first bytes of a granted page.
fn read(grants: &impl Grants, gref: GrantRef, len: usize) -> Result<Vec<u8>, CtrlStatus> {
    let mut results = Vec::with_capacity(1);
    grants.map(&[gref], Access::ReadOnly, &mut results);
    let mut pages: Vec<_> = results.into_iter().flatten().collect();
    let mut bytes = alloc::vec![0; len.min(PAGE_SIZE)];
    let page = pages.first().ok_or(CtrlStatus::InvalidParameter)?;
    page.copy_out(0, &mut bytes);
    grants.unmap(&mut pages);
    Ok(bytes)
}
