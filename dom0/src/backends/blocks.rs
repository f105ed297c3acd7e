//! Block devices (Xen public/io/blkif.h): a guest's ring, and what it may use of Dom0's disks.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use blkback::{BackEnd, Control, End, Limits, Params, Stats, advertise};
use dom0_core::devices::{paths, vbd_info};
use dom0_core::disk::{Access, Target};
use driver_api::Disk;
use hypercall_abi::ids::DomId;

use super::{Backends, Connected, DeviceId, Kind, NO_ROOM, Nodes};
use crate::disks::{Disks, VirtualDisk};
use crate::hal::{GrantsOf, GuestPort};

/// The kind of block devices.
pub struct Blocks(pub Rc<Disks>);

impl Kind for Blocks {
    const NAME: &'static str = paths::VBD;
    const DRIVER: &'static str = "blkback";
    type Device = VirtualDisk;
    type Control = Control;

    async fn open(&self, id: DeviceId, nodes: &Nodes<'_>) -> Result<VirtualDisk, String> {
        let info = vbd_info(|key| nodes.read(key)).ok_or_else(|| String::from("its nodes are incomplete"))?;
        let target = Target::parse(&info.params).map_err(|error| format!("{error}"))?;
        let opened = self.0.open(&target, info.access == Access::ReadOnly, id).await;
        opened.map_err(|error| format!("{error}"))
    }

    fn offer(disk: &VirtualDisk) -> Vec<(&'static str, String)> {
        advertise(&disk.info(), &limits(disk))
    }

    async fn changed(disk: &VirtualDisk) {
        disk.resized().await;
    }

    fn connect(
        &self,
        (domid, _): DeviceId,
        disk: &VirtualDisk,
        lookup: impl FnMut(&str) -> Option<String>,
    ) -> Result<Connected<Control, impl Future<Output = End> + 'static>, String> {
        let params = Params::parse(lookup).map_err(|error| format!("{error}"))?;
        let ports = params.queues.iter().map(|queue| GuestPort::bind(domid, queue.port));
        let ports = ports.collect::<Result<_, _>>().map_err(|error| format!("event channel: {error}"))?;
        let limits = limits(disk);
        let grants = GrantsOf::promise(domid, params.most_mapped(&limits)).ok_or(NO_ROOM)?;
        let back_end =
            BackEnd::connect(grants, ports, disk.clone(), &params, limits).map_err(|error| format!("{error}"))?;
        Ok(Connected { control: back_end.control(), task: back_end.run() })
    }

    fn stop(control: &Control) {
        control.stop();
    }
}

/// The bounds of a device. Where nothing is mapped, a guest need not keep grants for us, nor copy into them.
fn limits(disk: &VirtualDisk) -> Limits {
    match disk.memory() {
        Some(_) => Limits { persistent_grants: 0, ..Limits::default() },
        None => Limits::default(),
    }
}

impl Backends<Blocks> {
    /// The counters of a domain's disks.
    pub fn stats(&self, domid: DomId) -> Vec<(u32, Stats)> {
        self.controls(domid).into_iter().map(|(number, control)| (number, control.stats())).collect()
    }
}
