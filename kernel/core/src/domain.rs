//! A domain, and the table that finds it by its id.

use hypercall_abi::control::{DomainParams, STATE_DYING, STATE_SHUTDOWN};
use hypercall_abi::errno::XenError;
use hypercall_abi::hvm::NR_PARAMS;
use hypercall_abi::ids::{DomId, VcpuId};
use hypercall_abi::sched::ShutdownReason;

use crate::console::LineBuffer;
use crate::control::Caps;
use crate::evtchn::Events;
use crate::frame::{FrameKind, FrameRef};
use crate::grant::GrantTable;
use crate::hw::Hw;
use crate::ioreq::Ranges;
use crate::p2m::{MapKind, P2m};
use crate::quota::Quota;
use crate::sched::Budget;
use crate::sched_op::Watchdogs;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, SpinMutex};
use crate::vcpu::Vcpu;
use crate::vgic::{Distributor, GICC_PAGES, GicLayout};

/// The most vCPUs of one domain.
pub const MAX_VCPUS: usize = 64;
/// The most domains at once.
pub const MAX_DOMAINS: usize = 512;

/// Where the reason of a shutdown stands in [`Domain::life`], above the state.
const REASON_SHIFT: u32 = 8;

/// A domain.
pub struct Domain<H: Hw> {
    /// Its id.
    pub id: DomId,
    /// Its UUID, which only tools read.
    pub uuid: [u8; 16],
    /// Pages that it owns and may own.
    pub quota: &'static Quota,
    /// Its stage 2.
    pub p2m: P2m<H>,
    /// Its grant table. Guards the pages and our halves of the entries; taken before the p2m's lock.
    pub grants: SpinMutex<GrantTable>,
    /// Its event channels.
    pub events: Events<H>,
    /// Its interrupt distributor.
    pub dist: Distributor<H>,
    /// Where others emulate devices for it. Nothing is taken under it.
    pub devices: SpinMutex<Ranges>,
    /// Its capabilities; only domains that were given some have a table.
    pub caps: Option<H::Shared<Caps<H>>>,
    /// Its HVM parameters, by index. Relaxed: each is a number by itself, there before the domain starts or its own.
    pub params: [AtomicU64; NR_PARAMS as usize],
    /// Its watchdogs. Taken before the lock of a pCPU's queues.
    pub watchdogs: SpinMutex<Watchdogs>,
    /// The line that it is printing with `console_io`. Taken before the domain list: what is printed goes to Dom0.
    pub line: SpinMutex<LineBuffer>,
    /// The page through which the hypervisor and the domain share event bits; freed with the last reference to the
    /// domain, since a sender may still hold one.
    pub shared_info: FrameRef,
    /// vCPUs that may be polling, a bit each: where a sender looks first. Sequential, as `Vcpu::polling`: it makes its port
    /// pending and then looks at both, and who polls sets both and then looks at the port.
    pub pollers: AtomicU64,
    /// How much it may run.
    pub budget: Budget,
    /// Pauses through capabilities that have not been taken back. Guards also that the vCPUs are held as it says.
    pub pauses: SpinMutex<u32>,
    /// Whether the runstate copies carry the update flag (`vm_assist`). Relaxed: a copy may do as was said before.
    pub runstate_flag: AtomicBool,
    /// Where the counter stood when the domain was made; what its virtual counter lacks.
    pub counter_offset: u64,
    /// `STATE_SHUTDOWN` and why, `STATE_DYING`, or zero while it lives. Who sees late that it is dying finds nothing in its
    /// p2m, whose lock has the last word.
    life: AtomicU32,
    vcpus: heapless::Vec<H::Shared<Vcpu<H>>, MAX_VCPUS>,
}

impl<H: Hw> Domain<H> {
    /// A domain without memory, paused once, its vCPUs offline; `is_host` if its GIC is that of the machine.
    pub fn new(
        id: DomId,
        params: &DomainParams,
        (gic, is_host): (GicLayout, bool),
        vcpus: heapless::Vec<H::Shared<Vcpu<H>>, MAX_VCPUS>,
    ) -> Result<Self, XenError> {
        let shared_info = H::frame(id, FrameKind::Shared)?;
        if let Some(first) = vcpus.first() {
            first.set_info(shared_info.pa());
        }
        let p2m = P2m::new(id)?;
        if gic.is_v2() {
            p2m.map(gic.cpu, gic.interface.start, GICC_PAGES, MapKind::Device)?;
            vcpus.iter().for_each(|vcpu| vcpu.gic.make_v2());
        }
        let caps = if is_host { Some(H::share(id, Caps::of_machine())?) } else { None };
        Ok(Domain {
            id,
            uuid: params.uuid,
            quota: H::frames().quota(id),
            p2m,
            grants: SpinMutex::new(GrantTable::new(params.max_grant_frames)),
            events: Events::new(id, params.max_ports),
            dist: Distributor::new(id, (gic, is_host), vcpus.len(), params.nr_spis)?,
            devices: SpinMutex::default(),
            caps,
            params: [const { AtomicU64::new(0) }; NR_PARAMS as usize],
            watchdogs: SpinMutex::default(),
            line: SpinMutex::new(LineBuffer::default()),
            shared_info,
            pollers: AtomicU64::new(0),
            budget: Budget::default(),
            pauses: SpinMutex::new(1),
            runstate_flag: AtomicBool::new(false),
            counter_offset: H::now(),
            life: AtomicU32::new(0),
            vcpus,
        })
    }

    /// Its vCPUs, in the order of their ids.
    pub fn vcpus(&self) -> &[H::Shared<Vcpu<H>>] {
        &self.vcpus
    }

    /// A vCPU by its id.
    pub fn vcpu(&self, id: VcpuId) -> Option<&H::Shared<Vcpu<H>>> {
        self.vcpus.get(usize::try_from(id.0).ok()?)
    }

    /// Whether it holds capabilities, as Dom0 does. Its IPAs are PAs then, so that they can go to devices.
    pub fn is_privileged(&self) -> bool {
        self.caps.is_some()
    }

    /// How its life stands, in the words of `DomainInfo`: its state, and why it has shut down if it has.
    pub fn life(&self) -> (u32, u32) {
        let life = self.life.load(Ordering::Acquire);
        (life & ((1 << REASON_SHIFT) - 1), life >> REASON_SHIFT)
    }

    /// Whether it is being destroyed: its pages must not be taken hold of any more.
    pub fn is_dying(&self) -> bool {
        self.life.load(Ordering::Acquire) == STATE_DYING
    }

    /// Alive to shut down; false if it was not alive.
    pub fn begin_shutdown(&self, reason: ShutdownReason) -> bool {
        let shut_down = STATE_SHUTDOWN | reason.raw() << REASON_SHIFT;
        self.life.compare_exchange(0, shut_down, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Anything to dying.
    pub fn begin_dying(&self) {
        self.life.store(STATE_DYING, Ordering::Release);
    }

    /// The domain that `id` means when this one says it.
    pub fn resolve(&self, id: DomId) -> DomId {
        if id == DomId::SELF { self.id } else { id }
    }
}

/// A domain that somebody knows, or nothing.
pub(crate) type Known<H> = Option<<H as Hw>::Shared<Domain<H>>>;

/// The domains by id. The slot of an id is its remainder, so that look-up costs the same with one domain and with
/// hundreds; ids grow until they wrap, so that a dead domain's id rests before it is used again.
pub struct DomainTable<H: Hw> {
    /// Each guards one slot of the domain list. Taken before any lock of a domain.
    slots: [SpinMutex<Known<H>>; MAX_DOMAINS],
    /// The id to try next. Relaxed: the lock of its slot decides.
    next: AtomicU64,
}

impl<H: Hw> DomainTable<H> {
    /// No domains.
    pub(crate) const fn new() -> Self {
        DomainTable { slots: [const { SpinMutex::new(None) }; MAX_DOMAINS], next: AtomicU64::new(0) }
    }

    fn slot(&self, id: DomId) -> &SpinMutex<Known<H>> {
        &self.slots[usize::from(id.0) % MAX_DOMAINS]
    }

    /// The domain with this id.
    pub fn get(&self, id: DomId) -> Known<H> {
        self.slot(id).lock().as_ref().filter(|domain| domain.id == id).cloned()
    }

    /// Makes a domain with an id that no other has, and makes it known; `ENOSPC` if there is none. Dom0's is the first.
    pub fn add(
        &self,
        make: impl FnOnce(DomId) -> Result<H::Shared<Domain<H>>, XenError>,
    ) -> Result<H::Shared<Domain<H>>, XenError> {
        let ids = u64::from(DomId::FIRST_RESERVED.0);
        let free = (0..MAX_DOMAINS).find_map(|_| {
            let id = DomId(u16::try_from(self.next.fetch_add(1, Ordering::Relaxed) % ids).ok()?);
            Some((id, self.slot(id).lock())).filter(|(_, slot)| slot.is_none())
        });
        let (id, mut slot) = free.ok_or(XenError::NoSpc)?;
        Ok(slot.insert(make(id)?).clone())
    }

    /// Makes a domain unknown; false if it was. It lives on while somebody holds it, as the caller does.
    pub fn remove(&self, domain: &H::Shared<Domain<H>>) -> bool {
        self.slot(domain.id).lock().take_if(|known| core::ptr::eq::<Domain<H>>(&**known, &**domain)).is_some()
    }

    /// The live domain with the smallest id at or after `from`.
    pub fn at_or_after(&self, from: DomId) -> Known<H> {
        let known = |slot: &SpinMutex<Known<H>>| slot.lock().as_ref().filter(|domain| domain.id >= from).cloned();
        self.slots.iter().filter_map(known).min_by_key(|domain| domain.id)
    }
}
