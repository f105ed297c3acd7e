//! The toolstack: makes domains, follows their lives, takes them down.
//!
//! What is decided without hardware is in `dom0-core`; here it is carried out, through the control calls, the store
//! and the back ends. Each step that makes something is undone when a later one fails.

mod create;
mod destroy;
mod error;
mod life;
mod shares;

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use dom0_core::domain::Register;
use dom0_core::pool::Pools;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use pv_guest_lib::control::{self, Cap, DomainInfo};

use crate::backends::{Backends, Blocks, Nets};
use crate::consoles::Consoles;
use crate::disks::Disks;
use crate::store::{Client, Hub};
use crate::switch::Switch;
use crate::tasks::Tasks;

pub use error::Error;

/// Dom0's vCPUs: its executor runs on one.
const DOM0_VCPUS: usize = 1;

/// The toolstack and what it works with.
pub struct Toolstack {
    /// The domains that it made.
    pub register: RefCell<Register>,
    /// The CPU pools, and where the domains run.
    pub pools: RefCell<Pools>,
    /// Their consoles.
    pub consoles: Consoles,
    /// Their disks.
    pub blocks: Rc<Backends<Blocks>>,
    /// Their network interfaces.
    pub nets: Rc<Backends<Nets>>,
    /// The bridges.
    pub switch: Rc<Switch>,
    /// Dom0's disks and files.
    pub disks: Rc<Disks>,
    /// The toolstack's connection to the store.
    pub store: Client,
    hub: Rc<Hub>,
    caps: RefCell<BTreeMap<DomId, Cap>>,
    pub(crate) tasks: Rc<Tasks>,
    random: Cell<u64>,
}

impl Toolstack {
    /// A toolstack without domains, on a machine of `pcpus` pCPUs. `seed` is whatever differs from one start to the next.
    pub fn new(
        hub: Rc<Hub>,
        disks: Rc<Disks>,
        switch: Rc<Switch>,
        tasks: Rc<Tasks>,
        pcpus: u32,
        seed: u64,
    ) -> Result<Rc<Self>, xenstore::Error> {
        Ok(Rc::new(Toolstack {
            register: RefCell::default(),
            pools: RefCell::new(Pools::new(pcpus, DOM0_VCPUS)),
            consoles: Consoles::new(Rc::clone(&tasks)),
            blocks: Backends::new(Blocks(Rc::clone(&disks)), Rc::clone(&hub), Rc::clone(&tasks)),
            nets: Backends::new(Nets::new(Rc::clone(&switch)), Rc::clone(&hub), Rc::clone(&tasks)),
            switch,
            disks,
            store: hub.client()?,
            hub,
            caps: RefCell::default(),
            tasks,
            random: Cell::new(seed),
        }))
    }

    /// The capability for a domain that the toolstack made.
    pub fn cap(&self, domid: DomId) -> Result<Cap, Error> {
        self.caps.borrow().get(&domid).copied().ok_or(Error::Gone(domid))
    }

    /// What the microkernel says of a domain, Dom0 included.
    pub fn info(&self, domid: DomId) -> Result<DomainInfo, XenError> {
        self.with_cap(domid, control::domain_info).unwrap_or(Err(XenError::Srch))
    }

    /// Does something with a capability for a domain. The toolstack keeps none for Dom0, which it hardly changes.
    pub fn with_cap<R>(&self, domid: DomId, act: impl FnOnce(Cap) -> R) -> Result<R, Error> {
        if domid != DomId::DOM0 {
            return Ok(act(self.cap(domid)?));
        }
        let failed = |error| Error::Hypervisor("looking Domain-0 up", error);
        let found = control::lookup(domid).map_err(failed)?;
        let result = act(found.cap);
        control::drop_cap(found.cap).map_err(failed)?;
        Ok(result)
    }

    /// The domains that have an id, in the order of creation, and what the microkernel says of each.
    pub fn infos(&self) -> Vec<(DomId, DomainInfo)> {
        let ids: Vec<_> = self.register.borrow().iter().filter_map(|domain| domain.domid).collect();
        let all = core::iter::once(DomId::DOM0).chain(ids);
        all.filter_map(|domid| Some((domid, self.info(domid).ok()?))).collect()
    }

    /// Sixteen bytes that are hard to guess twice, for UUIDs and kernels' seeds: a mixing of the counter.
    ///
    /// Not a source for keys: a machine without a random number generator has none better.
    pub fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for half in bytes.chunks_exact_mut(8) {
            // SplitMix64's step and finaliser, with the clock stirred in.
            let state =
                self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15) ^ pv_guest_lib::time::now_us().rotate_left(32);
            self.random.set(state);
            let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            half.copy_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
        }
        bytes
    }
}

/// Nanoseconds of the machine's uptime.
pub fn uptime_ns() -> u64 {
    control::platform_info().map_or(0, |info| info.uptime_ns)
}

impl Toolstack {
    /// The nodes that say what Dom0 is, for guests and tools that look.
    pub fn introduce_dom0(&self) -> Result<(), Error> {
        let nodes = [
            ("/local/domain/0/name", dom0_core::domain::DOM0_NAME),
            ("/local/domain/0/domid", "0"),
            ("/local/domain/0/control", ""),
            ("/local/domain/0/backend/vbd", ""),
            ("/local/domain/0/backend/vif", ""),
            ("/local/domain/0/backend/console", ""),
            ("/local/domain/0/backend/vuart", ""),
            ("/libxl", ""),
            ("/tool", ""),
            ("/vm", ""),
        ];
        nodes.into_iter().try_for_each(|(path, value)| {
            self.store.write(path, value).map_err(|error| Error::Store("writing dom0's nodes", error))
        })
    }
}
