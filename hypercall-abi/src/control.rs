//! The control ABI: what only a holder of a capability may ask the microkernel to do.
//!
//! Xen's domctl and sysctl are private to one Xen version, so this part is our own: versioned, small, and
//! ruled by capabilities instead of by who calls. A capability is an index into the caller's own table in
//! the microkernel ([`Cap`]); it names one domain or the platform. Dom0 starts with [`Cap::PLATFORM`]; each
//! domain it creates comes back as a new capability.
//!
//! Calling convention: `hvc #0xEA1`, number in x16 ([`BASE`] + [`Op`]), capability in x0, arguments in
//! x1-x5. Result: x0 is 0 or a negative `errno`, further results in x1 and x2. Buffers are guest virtual
//! addresses of the caller. A call that has more to do than one stretch of work allows returns
//! `EAGAIN` with its progress in x1; the caller calls again with what is left.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::VcpuId;

/// The ABI's version; [`Op::Version`] returns the one that the microkernel speaks.
pub const VERSION: u32 = 8;

/// First hypercall number of the control range. Xen's own numbers end below 64.
pub const BASE: u32 = 0x1000;

/// An index into the caller's capability table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cap(u32);

impl Cap {
    /// The machine itself: create domains, read the console, power. Held by Dom0 from its start.
    pub const PLATFORM: Cap = Cap(0);

    /// The capability with this index; whether it names anything is the microkernel's to say.
    pub const fn new(index: u32) -> Self {
        Cap(index)
    }

    /// The index as it travels in x0.
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// What can be asked. The comment of each gives `(arguments) -> results`; `dom` and `platform` are capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// `() -> x1 = VERSION`.
    Version = 0,
    /// `(platform, *mut PlatformInfo)`.
    PlatformInfo = 1,
    /// `(platform, position, *mut u8, length) -> x1 = position after, x2 = bytes`. The log is a ring with an
    /// ever-growing byte position; a position that has been overwritten moves up to the oldest byte kept.
    ConsoleRead = 3,
    /// `(platform, action)`: 0 switches the machine off, 1 restarts it. Does not return.
    Power = 4,
    /// `(platform, address, pages)`: maps device registers for the caller, at the IPA that is their physical address.
    /// `EPERM` for RAM, for what firmware keeps and for the GIC; `EEXIST` where something is mapped.
    DeviceMap = 5,
    /// `(platform, *const DomainParams) -> x1 = dom, x2 = domid`. The domain is born paused and without memory.
    DomainCreate = 8,
    /// `(platform, domid) -> x1 = dom, x2 = domid`: a capability for the first live domain at or after `domid`.
    DomainLookup = 9,
    /// `(dom)`: forgets the capability; the domain lives on.
    CapDrop = 10,
    /// `(dom, *mut DomainInfo)`.
    DomainInfo = 11,
    /// `(dom)`: kills the domain and returns its frames. `EAGAIN` until all that can be returned is returned;
    /// then the capability is gone. Frames that peers still map follow when they unmap.
    DomainDestroy = 12,
    /// `(dom)`: pauses all vCPUs; nests (a count).
    DomainPause = 13,
    /// `(dom)`: takes back one pause.
    DomainUnpause = 14,
    /// `(dom, reason)`: as if the domain had called `SCHEDOP_shutdown`.
    DomainShutdown = 15,
    /// `(dom, pages)`: the most 4 KiB pages that the domain may own.
    DomainMaxPages = 16,
    /// `(dom, ipa, pages) -> x1 = pages done`: gives fresh zeroed RAM, in the largest blocks that alignment allows.
    Populate = 17,
    /// `(dom, ipa, *const u8, length) -> x1 = bytes done`: copies into the domain's RAM.
    MemoryWrite = 18,
    /// `(dom, ipa, *mut u8, length) -> x1 = bytes done`: copies out of the domain's RAM.
    MemoryRead = 19,
    /// `(dom, vcpu, pc, x0)`: sets where a vCPU that has not run yet starts, and brings it online.
    VcpuStart = 20,
    /// `(dom, vcpu, *mut VcpuInfo)`.
    VcpuInfo = 21,
    /// `(dom, vcpu, hard, soft)`: bit n of `hard` allows pCPU n, and of `soft` prefers it; `EINVAL` when a mask has no
    /// online pCPU.
    VcpuAffinity = 22,
    /// `(dom, index, value)`: sets an HVM parameter of the domain.
    HvmParam = 23,
    /// `(dom, reference, gfn, peer domid)`: writes a grant entry (full access) in the name of a domain that has not
    /// started yet; for the console and store pages.
    GrantSeed = 24,
    /// `(dom, remote domid) -> x1 = port`: allocates an unbound port in `dom` that `remote` may bind to.
    PortAlloc = 25,
    /// `(dom, now)`: says what time it is, in nanoseconds since the start of 1970 (UTC), which the domain's shared
    /// information page then tells (Xen public/xen.h, `wc_sec`). To be said before the domain starts.
    WallClock = 27,
    /// `(dom, weight, cap)`: the share of each vCPU in proportion to those that it competes with, 1 to [`MAX_WEIGHT`], and
    /// the most that all of them together may run, in per cent of a pCPU, up to 100 for each; 0 is no limit.
    DomainShare = 28,
    /// `(dom, ipa, bytes, port)`: lets whoever is at the other end of the domain's `port` emulate a device in this range,
    /// where nothing is. A vCPU that loads or stores there waits, and the port's other end is told. `EEXIST` if part of
    /// the range is served already, `ENOSPC` for more than 16 ranges.
    IoServe = 29,
    /// `(dom, port, vcpu, *mut IoRequest)`: the access of the first vCPU at or after `vcpu` that waits for the server at
    /// `port`; `ENOENT` if none does.
    IoNext = 30,
    /// `(dom, vcpu, value)`: ends the access that the vCPU waits for; a load reads `value`. `ENOENT` if it waits for none,
    /// `EAGAIN` for as long as it has not come to rest.
    IoAnswer = 31,
    /// `(dom, interrupt, level)`: raises (1) or lowers (0) the line of a shared interrupt of the domain.
    IrqLevel = 32,
    /// `(platform, pcpu, ipa, pages)`: pages of the caller's own RAM where this pCPU writes its trace from now on
    /// ([`trace`](crate::trace)), from 2 to [`MAX_PAGES`](crate::trace::MAX_PAGES); 0 ends that and lets go of them.
    TraceRing = 33,
}

impl Op {
    /// Every operation, for tables and tests.
    pub const ALL: [Op; 30] = [
        Op::Version,
        Op::PlatformInfo,
        Op::ConsoleRead,
        Op::Power,
        Op::DeviceMap,
        Op::DomainCreate,
        Op::DomainLookup,
        Op::CapDrop,
        Op::DomainInfo,
        Op::DomainDestroy,
        Op::DomainPause,
        Op::DomainUnpause,
        Op::DomainShutdown,
        Op::DomainMaxPages,
        Op::Populate,
        Op::MemoryWrite,
        Op::MemoryRead,
        Op::VcpuStart,
        Op::VcpuInfo,
        Op::VcpuAffinity,
        Op::HvmParam,
        Op::GrantSeed,
        Op::PortAlloc,
        Op::WallClock,
        Op::DomainShare,
        Op::IoServe,
        Op::IoNext,
        Op::IoAnswer,
        Op::IrqLevel,
        Op::TraceRing,
    ];

    /// The hypercall number of the operation, for x16.
    pub const fn number(self) -> u32 {
        BASE + self as u32
    }

    /// The operation with this hypercall number.
    pub fn from_number(number: u32) -> Option<Op> {
        Op::ALL.into_iter().find(|op| op.number() == number)
    }
}

/// The machine, for `xl info` and for Dom0's own start-up.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlatformInfo {
    /// Frames of 4 KiB that the machine has, and those that are free.
    pub total_pages: u64,
    /// Frames that no domain owns and the microkernel does not use.
    pub free_pages: u64,
    /// Where Dom0's RAM lies (IPA equals PA), in bytes.
    pub dom0_base: u64,
    /// How long Dom0's RAM is, in bytes.
    pub dom0_size: u64,
    /// A range of Dom0's IPA space that holds nothing, for its own grant table and for mappings of others' grants.
    pub window_base: u64,
    /// The window's length in bytes.
    pub window_size: u64,
    /// Nanoseconds since the machine started, by the system counter.
    pub uptime_ns: u64,
    /// Where the microkernel's image lies.
    pub image_base: u64,
    /// Frequency of the system counter.
    pub counter_hz: u32,
    /// pCPUs online.
    pub pcpus: u32,
    /// The version of the GIC that guests see, which is the machine's: 2 or 3.
    pub gic_version: u32,
    /// The most vCPUs that one domain can have.
    pub max_vcpus: u32,
}

/// The weight of a new domain, as in Xen's credit2.
pub const DEFAULT_WEIGHT: u32 = 256;
/// The largest weight of a domain.
pub const MAX_WEIGHT: u32 = 65535;

/// What a new domain may have; the limits do not change afterwards, but for the pages.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainParams {
    /// The domain's UUID, kept for tools and never read by the microkernel.
    pub uuid: [u8; 16],
    /// The most pages that the domain may own.
    pub max_pages: u64,
    /// Zero; others are for what is to come.
    pub flags: u32,
    /// vCPUs, at least 1.
    pub vcpus: u32,
    /// Frames of its grant table, at most.
    pub max_grant_frames: u32,
    /// Event channel ports, at most (0: the ABI's 4096).
    pub max_ports: u32,
    /// Shared interrupts, at most [`MAX_SPIS`]; 32 are there in any case, and their number is rounded up to a multiple of that.
    pub nr_spis: u32,
    /// Zero.
    pub reserved: u32,
}

/// The most shared interrupts of one domain: the numbers of a GIC end at 1019.
pub const MAX_SPIS: u32 = 988;

/// The domain is being destroyed.
pub const STATE_DYING: u32 = 1 << 0;
/// The domain has shut down; see `shutdown_reason`.
pub const STATE_SHUTDOWN: u32 = 1 << 1;
/// Paused through a capability.
pub const STATE_PAUSED: u32 = 1 << 2;
/// No vCPU has anything to do.
pub const STATE_BLOCKED: u32 = 1 << 3;
/// At least one vCPU is on a pCPU now.
pub const STATE_RUNNING: u32 = 1 << 4;

/// One domain, for `xl list`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInfo {
    /// The UUID given at creation.
    pub uuid: [u8; 16],
    /// Pages owned now.
    pub pages: u64,
    /// The most pages it may own.
    pub max_pages: u64,
    /// Time that its vCPUs ran, together.
    pub cpu_ns: u64,
    /// `STATE_*` bits.
    pub state: u32,
    /// `SHUTDOWN_*` of Xen's public/sched.h, when `STATE_SHUTDOWN` is set.
    pub shutdown_reason: u32,
    /// vCPUs that are online, and those that exist.
    pub online_vcpus: u32,
    /// vCPUs that the domain was made with.
    pub vcpus: u32,
    /// The domain's id.
    pub domid: u32,
    /// Frames of kernel objects charged to the domain.
    pub kernel_pages: u32,
    /// The weight of each vCPU.
    pub weight: u32,
    /// The most that its vCPUs may run together, in per cent of a pCPU; 0 is no limit.
    pub cap: u32,
}

wire_enum! {
    /// How a vCPU stands.
    VcpuState: u32 {
        /// It has not been started, or has switched itself off.
        Offline = 0,
        /// On a pCPU.
        Running = 1,
        /// It waits for a pCPU, or for the next period of its domain's cap.
        Ready = 2,
        /// It waits for an interrupt, an event, or a device.
        Blocked = 3,
        /// Its domain is paused or has stopped.
        Paused = 4,
    }
}

/// One vCPU, for `xl vcpu-list`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuInfo {
    /// Time that the vCPU ran.
    pub cpu_ns: u64,
    /// pCPUs that it may use.
    pub affinity: u64,
    /// pCPUs that it prefers.
    pub soft_affinity: u64,
    /// The pCPU where it is or was last.
    pub pcpu: u32,
    /// [`VcpuState`].
    pub state: u32,
}

/// An access that waits for its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoRequest {
    /// The IPA.
    pub address: u64,
    /// What is stored; zero in a load.
    pub value: u64,
    /// The vCPU that waits.
    pub vcpu: VcpuId,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// 1 if it is a store, 0 if it is a load.
    pub is_write: u8,
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<IoRequest>() == 24);
const _: () = assert!(size_of::<PlatformInfo>() == 80);
const _: () = assert!(size_of::<DomainParams>() == 48);
const _: () = assert!(size_of::<DomainInfo>() == 72);
const _: () = assert!(size_of::<VcpuInfo>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_number_and_no_number_twice() {
        for (i, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(Op::from_number(op.number()), Some(op));
            assert!(Op::ALL[..i].iter().all(|other| other.number() != op.number()));
        }
        assert_eq!(Op::from_number(BASE - 1), None);
        assert_eq!(Op::from_number(BASE + 200), None);
    }

    #[test]
    fn the_readme_has_the_version_each_operation_by_its_number_and_each_structure_by_its_size() {
        let readme = include_str!("../README.md");
        for op in Op::ALL {
            let name = format!("`{op:?}`");
            let mut rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
            let numbers = rows.find(|(_, what)| what.split(" | ").next().is_some_and(|names| names.contains(&name)));
            let numbers = numbers.map(|(numbers, _)| numbers).unwrap_or_default();
            assert!(numbers.split(", ").any(|number| number.parse() == Ok(op as u32)), "{op:?}: {numbers}");
        }
        assert!(readme.contains(&format!("| `Version` | | x1 = {VERSION} |")));
        for (name, size) in [
            ("PlatformInfo", size_of::<PlatformInfo>()),
            ("DomainParams", size_of::<DomainParams>()),
            ("DomainInfo", size_of::<DomainInfo>()),
            ("VcpuInfo", size_of::<VcpuInfo>()),
            ("IoRequest", size_of::<IoRequest>()),
        ] {
            assert!(readme.contains(&format!("`{name}` ({size})")), "{name} has {size} bytes");
        }
    }
}
