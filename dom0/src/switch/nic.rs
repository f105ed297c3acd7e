//! The machine's network devices: virtio-net behind virtio-mmio, as QEMU's `virt` has them.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::{Context, Poll};

use driver_api::net::{Frame, Port, Refused};
use pv_guest_lib::addr::IpaRange;
use pv_guest_lib::irq::{Line, Mode};
use virtio_net::sys::Queues;
use virtio_net::{MEMORY, MmioTransport, VirtioNet};

use crate::fdt::virtio_slots;
use crate::hal::{GrantCopier, device_memory, map_device};
use crate::sys;
use crate::tasks::Tasks;

/// The type of network devices (VIRTIO 1.2, 5.1.1).
const NETWORK_DEVICE: u32 = 1;
/// Devices that are driven at most.
const DEVICES: usize = 4;

/// Interrupt lines are awaited through statics, one for each device.
static LINES: [Line; DEVICES] = [const { Line::new() }; DEVICES];

/// The driver, for the one kind of device that there is.
pub type Device = VirtioNet<Queues<sys::DirectMemory, MmioTransport<'static>>, GrantCopier>;

/// A network device of the machine.
pub struct Nic {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its driver.
    pub device: Device,
}

impl Port for Nic {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        self.device.put(frame)
    }

    fn commit(&self) {
        self.device.commit();
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.device.poll_room(cx)
    }
}

/// Finds all devices; they are named in the order of their addresses.
pub fn find(fdt: &'static [u8], tasks: &Tasks) -> Vec<Rc<Nic>> {
    let mut found: Vec<Rc<Nic>> = Vec::new();
    let mut lines = LINES.iter();
    for (range, intid) in virtio_slots(fdt) {
        let Some(transport) = transport(range) else { continue };
        let name = format!("eth{}", found.len());
        let Some((device, line)) = open(transport, &name).zip(lines.next()) else { continue };
        if let Err(error) = line.bind(intid, Mode::Edge) {
            log::error!("{name}: interrupt {intid}: {error:?}");
            continue;
        }
        let nic = Rc::new(Nic { name, device });
        let waiting = Rc::clone(&nic);
        tasks.spawn(async move {
            loop {
                line.wait().await;
                waiting.device.on_interrupt();
            }
        });
        found.push(nic);
    }
    found
}

/// The transport of a slot that holds a network device.
fn transport(range: IpaRange) -> Option<MmioTransport<'static>> {
    map_device(range)?;
    if sys::virtio_device_type(range) != NETWORK_DEVICE {
        return None;
    }
    sys::virtio_transport(range)
}

fn open(transport: MmioTransport<'static>, name: &str) -> Option<Device> {
    let memory = device_memory(MEMORY)?;
    // The crate tells at level info which features it uses; that is nothing for the console.
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Warn);
    let started = Queues::new(transport, memory);
    log::set_max_level(level);
    match started {
        Ok(queues) => Some(VirtioNet::new(queues, GrantCopier)),
        Err(error) => {
            log::error!("{name}: {error}");
            None
        }
    }
}
