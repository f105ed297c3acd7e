//! Devices that come and go while their domain runs: what `xl block-*` and `xl network-*` have in common.

use alloc::format;
use alloc::vec::Vec;

use dom0_core::devices::{Node, detach, device_removal, paths};
use dom0_core::shell::DomainRef;
use embassy_time::{Duration, Timer, with_timeout};
use hypercall_abi::ids::DomId;

use super::{Failure, Outcome, Shell};
use crate::backends::DeviceId;

/// How long a back end may take to open its target, and a guest to let go of a device.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether a back end has gone.
const LOOK: Duration = Duration::from_millis(5);

impl Shell {
    /// Makes a device. Either it can be used afterwards, or nothing is left of it.
    pub(super) async fn attach(&self, kind: &str, domid: DomId, number: u32, name: &str, nodes: &[Node]) -> Outcome {
        let attached = match self.toolstack.write_nodes(nodes) {
            Ok(()) => self.opened(kind, domid, number, name).await,
            Err(error) => Err(error.into()),
        };
        if attached.is_err() {
            self.remove_device(kind, domid, number)?;
        }
        attached
    }

    /// Waits until the back end has opened what the device stands for.
    async fn opened(&self, kind: &str, domid: DomId, number: u32, name: &str) -> Outcome {
        match with_timeout(PATIENCE, self.toolstack.wait_for_device(kind, domid, number)).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(reason))) => Err(Failure(format!("device {name}: {reason}"))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure(format!("device {name}: its back end does not answer"))),
        }
    }

    /// Takes a device away. The guest is asked to let go, or with `force` not asked.
    pub(super) async fn detach(
        &self,
        kind: &str,
        id: DeviceId,
        domain: &DomainRef,
        name: &str,
        force: bool,
    ) -> Outcome {
        let (domid, number) = id;
        if force {
            self.remove_device(kind, domid, number)?;
        } else {
            self.toolstack.write_nodes(&detach(kind, domid, number))?;
        }
        let back = paths::backend(kind, domid, number);
        let serves =
            || if kind == paths::VBD { self.toolstack.blocks.serves(id) } else { self.toolstack.nets.serves(id) };
        let gone = async {
            while serves() || self.store.read(&back).is_ok() {
                Timer::after(LOOK).await;
            }
        };
        if with_timeout(PATIENCE, gone).await.is_err() {
            return Err(Failure(format!("domain {domain} does not let go of device {name}; -f takes it away")));
        }
        self.remove_device(kind, domid, number)
    }

    /// The id of the domain that is to get or lose a device.
    pub(super) fn owner(&self, domain: &DomainRef) -> Result<DomId, Failure> {
        let register = self.toolstack.register.borrow();
        let found = register.find(domain)?;
        found.domid.ok_or_else(|| Failure(format!("{} is being built", found.name)))
    }

    /// The ids of the domains whose devices are to be listed.
    pub(super) fn owners(&self, domains: &[DomainRef]) -> Result<Vec<DomId>, Failure> {
        let register = self.toolstack.register.borrow();
        domains.iter().map(|domain| Ok(register.domid(domain)?)).collect()
    }

    /// Whether the toolstack has made the device. The guest's own nodes prove nothing: it can write there.
    pub(super) fn has_device(&self, kind: &str, domid: DomId, number: u32) -> bool {
        let made = [paths::device(kind, domid, number), paths::backend(kind, domid, number)];
        made.iter().any(|path| self.store.read(path).is_ok())
    }

    /// The numbers of a domain's devices, as the toolstack made them.
    pub(super) fn device_numbers(&self, kind: &str, domid: DomId) -> Vec<u32> {
        let made = self.store.children(&format!("{}/device/{kind}", paths::toolstack(domid)));
        made.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// A number that a front end has published, or -1, as lists show it.
    pub(super) fn shown(&self, front: &str, key: &str) -> i32 {
        self.store.number(&format!("{front}/{key}")).and_then(|value| i32::try_from(value).ok()).unwrap_or(-1)
    }

    fn remove_device(&self, kind: &str, domid: DomId, number: u32) -> Outcome {
        device_removal(kind, domid, number).iter().try_for_each(|path| {
            self.store.remove(path).map_err(|error| Failure(format!("{path}: {}", error.wire_name())))
        })
    }
}
