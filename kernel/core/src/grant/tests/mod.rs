//! Tests of grants, made as hypercalls of two guests: A grants, B uses.

mod copies;
mod hostile;
mod life;
mod maps;
mod model;
mod queries;

use hypercall_abi::grant::{
    GNTMAP_HOST_MAP, GNTMAP_READONLY, GTF_PERMIT_ACCESS, GTF_READONLY, GrantOp, GrantStatus, MapGrantRef, UnmapGrantRef,
};
use hypercall_abi::ids::{DomId, Gfn, GrantHandle, GrantRef};
use hypercall_abi::nr::GRANT_TABLE_OP;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::frame_to_map;
use crate::addr::{GuestVa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::fake::{Fake, GUEST_RAM, Shared, World, frame_of, peek, poke};
use crate::hw::{Access, Hw, Memory, PcpuId, Translation};

const OKAY: i16 = GrantStatus::Okay.raw();
/// Where B maps.
const SLOTS: u64 = 0x8000_0000;
const FIRST: u64 = GUEST_RAM / PAGE_SIZE;

struct Pair {
    world: World,
    dom0: Shared<Domain<Fake>>,
    a: Shared<Domain<Fake>>,
    b: Shared<Domain<Fake>>,
    /// Frames that were free before the two.
    free: u64,
}

fn pair() -> Pair {
    let (mut world, dom0) = World::new();
    let free = Fake::frames().free_pages();
    let (a, b) = (world.domain(16), world.domain(16));
    Pair { world, dom0, a, b, free }
}

/// The granter's entry.
fn entry(granter: &Domain<Fake>, gref: u32) -> Pa {
    frame_to_map(granter, 0, Gfn(FIRST)).expect("the table has a page").add(u64::from(gref) * 8)
}

/// Writes an entry as a guest does: frame first, flags last.
fn grant(granter: &Domain<Fake>, gref: u32, page: u64, peer: DomId, read_only: bool) {
    let flags = GTF_PERMIT_ACCESS | if read_only { GTF_READONLY } else { 0 };
    let at = entry(granter, gref);
    Fake::store32(at.add(4), u32::try_from(FIRST + page).unwrap());
    Fake::store32(at, u32::from(flags) | u32::from(peer.0) << 16);
}

/// The flags of an entry.
fn flags(granter: &Domain<Fake>, gref: u32) -> u16 {
    u16::try_from(Fake::load32(entry(granter, gref)) & 0xFFFF).unwrap()
}

/// The frame behind page `n` of a domain.
fn page(domain: &Domain<Fake>, n: u64) -> Pa {
    frame_of(domain, GUEST_RAM + n * PAGE_SIZE)
}

impl Pair {
    /// One operation of B; returns x0 and the structure afterwards.
    fn one<T: IntoBytes + Immutable + FromBytes>(&mut self, op: GrantOp, arg: &T) -> (i64, T) {
        poke(&self.b, GUEST_RAM, arg);
        let x0 = self.world.call(&self.b, GRANT_TABLE_OP, &[u64::from(op.raw()), GUEST_RAM, 1]);
        (x0, peek(&self.b, GUEST_RAM))
    }

    fn map_with(&mut self, gref: u32, slot: u64, flags: u32) -> MapGrantRef {
        let arg = MapGrantRef {
            host_addr: SLOTS + slot * PAGE_SIZE,
            flags,
            gref: GrantRef(gref),
            dom: self.a.id,
            ..MapGrantRef::default()
        };
        let (x0, arg) = self.one(GrantOp::MapGrantRef, &arg);
        assert_eq!(x0, 0);
        arg
    }

    fn map(&mut self, gref: u32, slot: u64, write: bool) -> Result<GrantHandle, i16> {
        let done = self.map_with(gref, slot, GNTMAP_HOST_MAP | if write { 0 } else { GNTMAP_READONLY });
        if done.status == OKAY { Ok(done.handle) } else { Err(done.status) }
    }

    fn unmap(&mut self, handle: GrantHandle, slot: u64) -> i16 {
        let arg = UnmapGrantRef { host_addr: SLOTS + slot * PAGE_SIZE, handle, ..UnmapGrantRef::default() };
        let (x0, arg) = self.one(GrantOp::UnmapGrantRef, &arg);
        assert_eq!(x0, 0);
        arg.status
    }

    /// What B reaches at a slot.
    fn touch(&self, slot: u64, access: Access) -> Option<Pa> {
        Fake::load_stage2(self.b.p2m.vttbr(&self.world.kernel.vmids, PcpuId(0)));
        Fake::translate(GuestVa::new(SLOTS + slot * PAGE_SIZE), access)
    }
}
