//! `xl block-attach`, `block-detach`, `block-list`: disks that come and go while their domain runs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dom0_core::devices::{self, paths, vbd_info};
use dom0_core::disk::{Disk, Target};
use dom0_core::format::{BlockRow, block_list};
use dom0_core::shell::DomainRef;
use dom0_core::vdev::Vdev;
use embassy_time::{Duration, Timer, with_timeout};
use hypercall_abi::ids::DomId;

use super::{Failure, Outcome, Shell};
use crate::toolstack::Error;

/// How long a back end may take to open its target, and a guest to let go of a disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether a back end has gone.
const LOOK: Duration = Duration::from_millis(5);

impl Shell {
    /// `xl block-attach`. Either the disk can be used afterwards, or nothing is left of it.
    pub(super) async fn block_attach(&self, domain: &DomainRef, spec: &str) -> Outcome {
        let domid = self.owner(domain)?;
        let disk = Disk::parse(spec).map_err(|error| Failure(format!("disk '{spec}': {error}")))?;
        let (vdev, number) = (disk.vdev.name(), disk.vdev.number());
        if self.has_disk(domid, number) {
            return Err(Failure(format!("device {vdev} already exists in domain {domain}")));
        }
        let attached = match self.toolstack.write_nodes(&devices::vbd(domid, &disk)) {
            Ok(()) => self.opened(domid, number, vdev).await,
            Err(error) => Err(error.into()),
        };
        if attached.is_err() {
            self.remove_disk(domid, number)?;
        }
        attached
    }

    /// Waits until the back end has opened the target.
    async fn opened(&self, domid: DomId, number: u32, vdev: &str) -> Outcome {
        match with_timeout(PATIENCE, self.toolstack.wait_for_disk(domid, number, vdev)).await {
            Ok(Ok(())) => Ok(()),
            // Not the words for a configuration file, which the error has by itself.
            Ok(Err(Error::Disk(vdev, reason))) => Err(Failure(format!("device {vdev}: {reason}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure(format!("device {vdev}: its back end does not answer"))),
        }
    }

    /// `xl block-detach`. The guest is asked to let go, or with `force` not asked.
    pub(super) async fn block_detach(&self, domain: &DomainRef, vdev: &str, force: bool) -> Outcome {
        let domid = self.owner(domain)?;
        let number = Vdev::parse(vdev).map(|vdev| vdev.number()).filter(|number| self.has_disk(domid, *number));
        let number = number.ok_or_else(|| Failure(format!("Error: Device {vdev} not connected.")))?;
        if force {
            self.remove_disk(domid, number)?;
        } else {
            self.toolstack.write_nodes(&devices::vbd_detach(domid, number))?;
        }
        let back = paths::vbd_backend(domid, number);
        let gone = async {
            while self.toolstack.blocks.serves((domid, number)) || self.store.read(&back).is_ok() {
                Timer::after(LOOK).await;
            }
        };
        if with_timeout(PATIENCE, gone).await.is_err() {
            return Err(Failure(format!("domain {domain} does not let go of device {vdev}; -f takes it away")));
        }
        self.remove_disk(domid, number)
    }

    fn owner(&self, domain: &DomainRef) -> Result<DomId, Failure> {
        let register = self.toolstack.register.borrow();
        let found = register.find(domain)?;
        found.domid.ok_or_else(|| Failure(format!("{} is being built", found.name)))
    }

    /// Whether the toolstack has made the disk. The guest's own nodes prove nothing: it can write there.
    fn has_disk(&self, domid: DomId, number: u32) -> bool {
        let made = [paths::vbd_toolstack(domid, number), paths::vbd_backend(domid, number)];
        made.iter().any(|path| self.store.read(path).is_ok())
    }

    fn remove_disk(&self, domid: DomId, number: u32) -> Outcome {
        devices::vbd_removal(domid, number).iter().try_for_each(|path| {
            self.store.remove(path).map_err(|error| Failure(format!("{path}: {}", error.wire_name())))
        })
    }

    /// `xl block-list`.
    pub(super) async fn block_list(&self, domains: &[DomainRef]) -> Outcome {
        let domids: Result<Vec<_>, _> = {
            let register = self.toolstack.register.borrow();
            domains.iter().map(|domain| register.domid(domain)).collect()
        };
        let text = self.block_text(&domids?)?;
        self.say(&text).await
    }

    fn block_text(&self, domids: &[DomId]) -> Result<String, Failure> {
        let devices = domids.iter().flat_map(|domid| {
            self.disk_numbers(*domid).into_iter().map(|number| (*domid, number, paths::vbd_backend(*domid, number)))
        });
        let devices: Vec<_> = devices.collect();
        let rows = devices.iter().map(|(domid, number, backend)| {
            let front = paths::vbd_frontend(*domid, *number);
            let value = |key| self.store.number(&format!("{front}/{key}"));
            let shown = |key| value(key).and_then(|value| i32::try_from(value).ok()).unwrap_or(-1);
            BlockRow {
                vdev: *number,
                domid: domid.0,
                state: shown("state"),
                event_channel: shown("event-channel"),
                ring_ref: shown("ring-ref"),
                backend,
            }
        });
        let mut text = String::new();
        block_list(&mut text, rows)?;
        Ok(text)
    }

    fn disk_numbers(&self, domid: DomId) -> Vec<u32> {
        let made = self.store.children(&format!("{}/device/vbd", paths::toolstack(domid)));
        made.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// The disks that a domain has now, read back from the toolstack's own nodes.
    pub(super) fn disks_of(&self, domid: DomId) -> Vec<Disk> {
        self.disk_numbers(domid).into_iter().filter_map(|number| self.disk_of(domid, number)).collect()
    }

    fn disk_of(&self, domid: DomId, number: u32) -> Option<Disk> {
        let own = paths::vbd_toolstack(domid, number);
        let read = |key: &str| self.store.read(&format!("{own}/{key}")).ok();
        let info = vbd_info(read)?;
        Some(Disk {
            target: Target::parse(&info.params).ok()?,
            vdev: read("dev").and_then(|name| Vdev::parse(&name)).unwrap_or_else(|| Vdev::from_number(number)),
            access: info.access,
            kind: info.kind,
            discard: Some(info.discard),
            removable: read("removable").as_deref() == Some("1"),
        })
    }
}
