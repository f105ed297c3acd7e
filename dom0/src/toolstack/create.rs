//! `xl create`: from a configuration to a running domain, or to an error and nothing left behind.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use dom0_core::config::{DomainConfig, Vuart};
use dom0_core::devices::{self, DomainNodes, Node, paths};
use dom0_core::domain::Handle;
use dom0_core::image::{Kernel, LoadError, Loader};
use dom0_core::layout::{GicVersion, MAGIC_BASE, MagicPage};
use dom0_core::plan::{Plan, plan};
use dom0_core::uuid::Uuid;
use hypercall_abi::control::DomainParams;
use hypercall_abi::errno::XenError;
use hypercall_abi::hvm::Param;
use hypercall_abi::ids::{DomId, Port, VcpuId};
use pv_guest_lib::addr::Ipa;
use pv_guest_lib::control::{self, Cap};
use pv_guest_lib::time;
use vswitch::Mac;
use xenstore::{Access, Grant, Perms, Request};

use super::{Error, Toolstack, uptime_ns};
use crate::consoles;
use crate::disks::File;
use crate::store;

/// Bytes of a file that are moved at once.
const CHUNK: usize = 128 * 1024;
/// Bytes in which every kernel format shows where it goes.
const HEAD: usize = 64 * 1024;
/// Pages of the magic region: console, store, memory access ring, and the one that Xen has for the emulated UART.
pub(super) const MAGIC_PAGES: u64 = MagicPage::COUNT;
const MIB: u64 = 1 << 20;

impl Toolstack {
    /// Creates the domain that `path` describes, with `overrides` on top; leaves it paused if asked to.
    pub async fn create(&self, path: &str, overrides: &[String], paused: bool) -> Result<DomId, Error> {
        let bytes = self.disks.read_file(path).await.map_err(|error| Error::ConfigFile(path.to_string(), error))?;
        let text = String::from_utf8_lossy(&bytes);
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let config = DomainConfig::parse(path, &text, &overrides)?;
        self.create_from(config, paused).await
    }

    /// Creates a domain from a configuration; also how one is restarted.
    pub async fn create_from(&self, config: DomainConfig, paused: bool) -> Result<DomId, Error> {
        let uuid = config.uuid.unwrap_or_else(|| Uuid::from_random(self.random()));
        let handle = self.register.borrow_mut().begin(config.clone(), uuid, uptime_ns())?;
        let built = self.build(handle, &config, &uuid).await;
        let (cap, domid) = match built {
            Ok(built) => built,
            Err(error) => {
                self.undo(handle).await;
                return Err(error);
            }
        };
        self.register.borrow_mut().built(handle);
        if !paused {
            control::unpause(cap).map_err(|error| Error::Hypervisor("starting the domain", error))?;
        }
        Ok(domid)
    }

    async fn build(&self, handle: Handle, config: &DomainConfig, uuid: &Uuid) -> Result<(Cap, DomId), Error> {
        let kernel_file = self.open("kernel", &config.kernel).await?;
        let kernel = probe(&kernel_file, &config.kernel).await?;
        let initrd = match &config.ramdisk {
            Some(path) => Some(self.open("ramdisk", path).await?),
            None => None,
        };
        let partial = match &config.device_tree {
            Some(path) => Some(self.read("device_tree", path).await?),
            None => None,
        };
        let platform =
            control::platform_info().map_err(|error| Error::Hypervisor("asking about the machine", error))?;
        if config.max_vcpus > platform.max_vcpus {
            return Err(Error::Vcpus(config.max_vcpus, platform));
        }
        let gic = GicVersion::from_number(platform.gic_version);
        let seed = [self.random(), self.random()].concat();
        let plan = plan(config, &kernel, initrd.as_ref().map(|file| file.size()), gic, &seed, partial.as_deref())?;
        let made = make(config, uuid)?;
        self.caps.borrow_mut().insert(made.id, made.cap);
        self.register.borrow_mut().assign(handle, made.id);
        self.place(made.cap, made.id, config)?;
        populate(made.cap, &plan)?;
        match kernel.verbatim {
            Some(start) => {
                load_verbatim(made.cap, &kernel_file, "kernel", &config.kernel, start.get()).await?;
            }
            None => load_kernel(made.cap, &kernel_file, &config.kernel).await?,
        }
        if let (Some(file), Some(region)) = (&initrd, plan.layout.initrd) {
            let path = config.ramdisk.as_deref().unwrap_or_default();
            load_verbatim(made.cap, file, "ramdisk", path, region.start().get()).await?;
        }
        write_memory(made.cap, plan.layout.dtb.start().get(), &plan.dtb)?;
        self.connect(made.cap, made.id, config, uuid).await?;
        if let Some(now) = time::wall_clock() {
            control::set_wall_clock(made.cap, now).map_err(|error| Error::Hypervisor("setting its clock", error))?;
        }
        let start = |error| Error::Hypervisor("starting vCPU 0", error);
        let (entry, dtb) = (Ipa::new(kernel.entry.get()), plan.layout.dtb.start().get());
        control::start_vcpu(made.cap, VcpuId(0), entry, dtb).map_err(start)?;
        Ok((made.cap, made.id))
    }

    /// Everything through which the domain talks: console, store, disks.
    async fn connect(&self, cap: Cap, domid: DomId, config: &DomainConfig, uuid: &Uuid) -> Result<(), Error> {
        let hypervisor = |what| move |error| Error::Hypervisor(what, error);
        let console = special_page(cap, MagicPage::Console, consoles::RESERVED_REFERENCE.0)
            .map_err(hypervisor("setting up the console"))?;
        let xenstore = special_page(cap, MagicPage::Store, store::RESERVED_REFERENCE.0)
            .map_err(hypervisor("setting up xenstore"))?;
        let params = [
            (Param::ConsolePfn, MagicPage::Console.gfn().0),
            (Param::ConsoleEvtchn, u64::from(console.0)),
            (Param::StorePfn, MagicPage::Store.gfn().0),
            (Param::StoreEvtchn, u64::from(xenstore.0)),
            (Param::CallbackIrq, hypercall_abi::hvm::callback_ppi(31)),
        ];
        for (param, value) in params {
            control::set_hvm_param(cap, param, value).map_err(hypervisor("setting a parameter"))?;
        }
        self.consoles.open(domid, consoles::RESERVED_REFERENCE, console).map_err(Error::Console)?;
        let mut nodes = DomainNodes { domid, uuid, config, store_port: xenstore }.nodes();
        nodes.extend(devices::console(domid, console));
        if config.vuart == Vuart::Sbsa {
            nodes.extend(self.open_vuart(cap, domid)?);
        }
        for disk in &config.disks {
            nodes.extend(devices::vbd(domid, disk));
        }
        for (number, vif) in (0..).zip(&config.vifs) {
            nodes.extend(devices::vif(domid, number, vif.mac.unwrap_or_else(|| self.random_mac()), vif));
        }
        self.write_nodes(&nodes)?;
        let introduce = Request::Introduce { domid, gfn: MagicPage::Store.gfn(), port: xenstore };
        self.store.request(introduce).map_err(|error| Error::Store("introducing the domain", error))?;
        for disk in &config.disks {
            let opened = self.wait_for_device(paths::VBD, domid, disk.vdev.number()).await?;
            opened.map_err(|reason| Error::Device("disk", disk.vdev.name().to_string(), reason))?;
        }
        for (number, _) in (0..).zip(&config.vifs) {
            let opened = self.wait_for_device(paths::VIF, domid, number).await?;
            opened.map_err(|reason| Error::Device("vif", number.to_string(), reason))?;
        }
        Ok(())
    }

    fn open_vuart(&self, cap: Cap, domid: DomId) -> Result<Vec<Node>, Error> {
        let failed = |error| Error::Hypervisor("key 'vuart'", error);
        let port = control::alloc_port(cap, DomId::DOM0).map_err(failed)?;
        self.consoles.emulate(domid, cap, port).map_err(failed)?;
        Ok(devices::vuart(domid))
    }

    /// Writes nodes one after the other. Nobody sees some without the rest, since nothing else runs meanwhile; so
    /// it needs no transaction, whose copies of the store would cost more the more there is in it. After an error
    /// the caller takes away what has been written.
    pub fn write_nodes(&self, nodes: &[Node]) -> Result<(), Error> {
        let written = nodes.iter().try_for_each(|node| {
            let (path, value) = (node.path.as_str(), node.value.as_bytes());
            self.store.request(Request::Write { path, value })?;
            if let Some(perms) = &node.perms {
                self.store.request(Request::SetPerms { path, perms: &to_store(perms) })?;
            }
            Ok(())
        });
        written.map_err(|error| Error::Store("writing the domain's nodes", error))
    }

    /// Waits until the back end of a device has opened what it stands for; `Ok(Err(..))` says why it could not.
    pub async fn wait_for_device(&self, kind: &str, domid: DomId, number: u32) -> Result<Result<(), String>, Error> {
        let back = paths::backend(kind, domid, number);
        let failed = |error| Error::Store("waiting for a device", error);
        let watcher = self.hub.client().map_err(failed)?;
        watcher.watch(&back, "").map_err(failed)?;
        loop {
            match watcher.read(&format!("{back}/hotplug-status")).as_deref() {
                Ok("connected") => return Ok(Ok(())),
                Ok("error") => return Ok(Err(watcher.read(&format!("{back}/hotplug-error")).unwrap_or_default())),
                Ok(_) | Err(_) => {}
            }
            watcher.event().await;
        }
    }

    /// An Ethernet address out of those that Xen has for guests.
    pub fn random_mac(&self) -> Mac {
        let [a, b, c, ..] = self.random();
        Mac([0x00, 0x16, 0x3E, a & 0x7F, b, c])
    }

    async fn open(&self, key: &'static str, path: &str) -> Result<File<'_>, Error> {
        self.disks.open_file(path).await.map_err(|error| Error::File(key, path.to_string(), error))
    }

    async fn read(&self, key: &'static str, path: &str) -> Result<Vec<u8>, Error> {
        self.disks.read_file(path).await.map_err(|error| Error::File(key, path.to_string(), error))
    }
}

/// The kernel's head says where it goes.
async fn probe(file: &File<'_>, path: &str) -> Result<Kernel, Error> {
    let mut head = vec![0; HEAD.min(usize::try_from(file.size()).unwrap_or(HEAD))];
    let count = file.read_at(0, &mut head).await.map_err(|error| Error::File("kernel", path.to_string(), error))?;
    let head = head.get(..count).unwrap_or_default();
    Loader::probe(head, file.size()).map_err(|error| Error::Kernel(path.to_string(), error))
}

fn make(config: &DomainConfig, uuid: &Uuid) -> Result<control::Domain, Error> {
    let pages = (config.maxmem_mib * MIB) / hypercall_abi::PAGE_SIZE as u64 + MAGIC_PAGES;
    let free = control::platform_info().map_or(0, |info| info.free_pages) * hypercall_abi::PAGE_SIZE as u64 / MIB;
    if free < config.memory_mib {
        return Err(Error::Memory(config.memory_mib, free));
    }
    let params = DomainParams {
        uuid: *uuid.as_bytes(),
        max_pages: pages,
        flags: 0,
        vcpus: config.max_vcpus,
        max_grant_frames: config.max_grant_frames,
        max_ports: config.max_event_channels,
        nr_spis: config.nr_spis,
        reserved: 0,
    };
    control::create(&params).map_err(|error| Error::Hypervisor("creating the domain", error))
}

fn populate(cap: Cap, plan: &Plan) -> Result<(), Error> {
    let page = hypercall_abi::PAGE_SIZE as u64;
    let banks = plan.layout.banks.iter().map(|bank| (bank.start().get(), bank.size() / page));
    for (start, pages) in banks.chain([(MAGIC_BASE.get(), MAGIC_PAGES)]) {
        control::populate(cap, Ipa::new(start), pages).map_err(|error| match error {
            XenError::NoMem => {
                let free = control::platform_info().map_or(0, |info| info.free_pages);
                Error::Memory(pages * page / MIB, free * page / MIB)
            }
            other => Error::Hypervisor("giving the domain memory", other),
        })?;
    }
    Ok(())
}

async fn load_kernel(cap: Cap, file: &File<'_>, path: &str) -> Result<(), Error> {
    let mut loader = Loader::new(file.size());
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < file.size() {
        let count =
            file.read_at(at, &mut chunk).await.map_err(|error| Error::File("kernel", path.to_string(), error))?;
        if count == 0 {
            break;
        }
        let piece = chunk.get(..count).unwrap_or_default();
        let fed = loader.feed(piece, &mut |ipa, bytes| write_memory(cap, ipa.get(), bytes));
        fed.map_err(|error| match error {
            LoadError::Image(error) => Error::Kernel(path.to_string(), error),
            LoadError::Sink(error) => error,
        })?;
        at += count as u64;
    }
    loader.finish().map(drop).map_err(|error| Error::Kernel(path.to_string(), error))
}

/// Loads a file as it is; what `key` names it.
async fn load_verbatim(cap: Cap, file: &File<'_>, key: &'static str, path: &str, to: u64) -> Result<(), Error> {
    let load = |at, piece| {
        let copied = control::copy_memory(cap, Ipa::new(to + at), piece);
        copied.map_err(|error| Error::Hypervisor("writing the domain's memory", error))
    };
    file.pass_on(load).await.map_err(|error| Error::File(key, path.to_string(), error))?
}

fn write_memory(cap: Cap, to: u64, bytes: &[u8]) -> Result<(), Error> {
    control::write_memory(cap, Ipa::new(to), bytes)
        .map_err(|error| Error::Hypervisor("writing the domain's memory", error))
}

/// Grants a magic page to Dom0 and makes the port that goes with it.
fn special_page(cap: Cap, page: MagicPage, reference: u32) -> Result<Port, XenError> {
    control::seed_grant(cap, hypercall_abi::ids::GrantRef(reference), page.gfn(), DomId::DOM0)?;
    control::alloc_port(cap, DomId::DOM0)
}

/// The toolstack's simple permissions in the store's terms.
fn to_store(perms: &devices::Perms) -> Perms {
    let reader = perms.reader.map(|domid| Grant { domid, access: Access::Read });
    Perms { owner: perms.owner, others: Access::None, granted: reader.into_iter().collect() }
}
