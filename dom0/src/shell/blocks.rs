//! `xl block-attach`, `block-detach`, `block-resize`, `block-list`: disks that come and go while their domain runs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dom0_core::devices::{self, paths, vbd_info};
use dom0_core::disk::{Disk, Target};
use dom0_core::format::{BlockRow, block_list};
use dom0_core::shell::DomainRef;
use dom0_core::vdev::Vdev;
use hypercall_abi::ids::DomId;

use super::{Failure, Outcome, Shell};
use crate::backends::DeviceId;

impl Shell {
    /// `xl block-attach`. Either the disk can be used afterwards, or nothing is left of it.
    pub(super) async fn block_attach(&self, domain: &DomainRef, spec: &str) -> Outcome {
        let domid = self.owner(domain)?;
        let disk = Disk::parse(spec).map_err(|error| Failure(format!("disk '{spec}': {error}")))?;
        let (vdev, number) = (disk.vdev.name(), disk.vdev.number());
        if self.has_device(paths::VBD, domid, number) {
            return Err(Failure(format!("device {vdev} already exists in domain {domain}")));
        }
        self.attach(paths::VBD, domid, number, vdev, &devices::vbd(domid, &disk)).await
    }

    /// `xl block-detach`. The guest is asked to let go, or with `force` not asked.
    pub(super) async fn block_detach(&self, domain: &DomainRef, vdev: &str, force: bool) -> Outcome {
        let id = self.block_device(domain, vdev)?;
        self.detach(paths::VBD, id, domain, vdev, force).await
    }

    /// `xl block-resize`. The guest is told; it has the new sectors when this returns.
    pub(super) async fn block_resize(&self, domain: &DomainRef, vdev: &str, kib: u64) -> Outcome {
        let id = self.block_device(domain, vdev)?;
        let resized = self.toolstack.disks.resize(id, kib).await;
        resized.map_err(|error| Failure(format!("device {vdev} of domain {domain}: {error}")))
    }

    /// A disk that a domain has.
    fn block_device(&self, domain: &DomainRef, vdev: &str) -> Result<DeviceId, Failure> {
        let domid = self.owner(domain)?;
        let number =
            Vdev::parse(vdev).map(|vdev| vdev.number()).filter(|number| self.has_device(paths::VBD, domid, *number));
        let number = number.ok_or_else(|| Failure(format!("Error: Device {vdev} not connected.")))?;
        Ok((domid, number))
    }

    /// `xl block-list`.
    pub(super) async fn block_list(&self, domains: &[DomainRef]) -> Outcome {
        let text = self.block_text(&self.owners(domains)?)?;
        self.say(&text).await
    }

    fn block_text(&self, domids: &[DomId]) -> Result<String, Failure> {
        let devices = domids.iter().flat_map(|domid| {
            self.device_numbers(paths::VBD, *domid)
                .into_iter()
                .map(|number| (*domid, number, paths::backend(paths::VBD, *domid, number)))
        });
        let devices: Vec<_> = devices.collect();
        let rows = devices.iter().map(|(domid, number, backend)| {
            let front = paths::frontend(paths::VBD, *domid, *number);
            let shown = |key| self.shown(&front, key);
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

    /// The disks that a domain has now, read back from the toolstack's own nodes.
    pub(super) fn disks_of(&self, domid: DomId) -> Vec<Disk> {
        self.device_numbers(paths::VBD, domid).into_iter().filter_map(|number| self.disk_of(domid, number)).collect()
    }

    fn disk_of(&self, domid: DomId, number: u32) -> Option<Disk> {
        let own = paths::device(paths::VBD, domid, number);
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
