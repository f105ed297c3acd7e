//! `xl network-attach`, `network-detach`, and `network-list`: interfaces of domains.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dom0_core::devices::{self, paths, vif_info};
use dom0_core::format::{NetworkRow, network_list};
use dom0_core::shell::DomainRef;
use dom0_core::vif::Vif;
use hypercall_abi::ids::DomId;

use super::{Failure, Outcome, Shell};

impl Shell {
    /// `xl network-attach`.
    pub(super) async fn network_attach(&self, domain: &DomainRef, spec: &str) -> Outcome {
        let domid = self.owner(domain)?;
        let vif = Vif::parse(spec).map_err(|error| Failure(format!("vif '{spec}': {error}")))?;
        let number = self.next_number(domid)?;
        let mac = vif.mac.unwrap_or_else(|| self.toolstack.random_mac());
        let nodes = devices::vif(domid, number, mac, &vif);
        self.attach(paths::VIF, domid, number, &format!("{number}"), &nodes).await
    }

    /// A number that no interface of the domain has had: the guest may not have noticed yet that an earlier one has gone,
    /// and would take the new one for it.
    fn next_number(&self, domid: DomId) -> Result<u32, Failure> {
        let path = format!("{}/next-vif", paths::toolstack(domid));
        let above =
            self.device_numbers(paths::VIF, domid).into_iter().max().map_or(0, |number| number.saturating_add(1));
        let number = self.store.number(&path).unwrap_or(0).max(above);
        self.store
            .write(&path, &format!("{}", number.saturating_add(1)))
            .map_err(|error| Failure(format!("{path}: {}", error.wire_name())))?;
        Ok(number)
    }

    /// `xl network-detach`; the interface is named by its number or its address.
    pub(super) async fn network_detach(&self, domain: &DomainRef, name: &str, force: bool) -> Outcome {
        let domid = self.owner(domain)?;
        let numbers = self.device_numbers(paths::VIF, domid);
        let is_named = |number: u32| {
            name.parse() == Ok(number)
                || self.vif_of(domid, number).and_then(|vif| vif.mac).is_some_and(|mac| name.parse() == Ok(mac))
        };
        let number = numbers.into_iter().find(|number| is_named(*number));
        let number = number.ok_or_else(|| Failure(format!("Unknown device {name}.")))?;
        self.detach(paths::VIF, (domid, number), domain, name, force).await
    }

    /// `xl network-list`.
    pub(super) async fn network_list(&self, domains: &[DomainRef]) -> Outcome {
        let text = self.network_text(&self.owners(domains)?)?;
        self.say(&text).await
    }

    fn network_text(&self, domids: &[DomId]) -> Result<String, Failure> {
        let interfaces = domids.iter().flat_map(|domid| {
            let numbers = self.device_numbers(paths::VIF, *domid).into_iter();
            numbers.filter_map(|number| Some((*domid, number, self.vif_of(*domid, number)?.mac?)))
        });
        let interfaces: Vec<_> = interfaces
            .map(|(domid, number, mac)| (domid, number, mac, paths::backend(paths::VIF, domid, number)))
            .collect();
        let rows = interfaces.iter().map(|(domid, number, mac, backend)| {
            let front = paths::frontend(paths::VIF, *domid, *number);
            NetworkRow {
                number: *number,
                mac: *mac,
                state: self.shown(&front, "state"),
                event_channel: self.shown(&front, "event-channel"),
                tx_ring_ref: self.shown(&front, "tx-ring-ref"),
                rx_ring_ref: self.shown(&front, "rx-ring-ref"),
                backend,
            }
        });
        let mut text = String::new();
        network_list(&mut text, rows)?;
        Ok(text)
    }

    /// The interfaces that a domain has now, read back from the toolstack's own nodes.
    pub(super) fn vifs_of(&self, domid: DomId) -> Vec<Vif> {
        let numbers = self.device_numbers(paths::VIF, domid).into_iter();
        numbers.filter_map(|number| self.vif_of(domid, number)).collect()
    }

    fn vif_of(&self, domid: DomId, number: u32) -> Option<Vif> {
        let own = paths::device(paths::VIF, domid, number);
        vif_info(|key| self.store.read(&format!("{own}/{key}")).ok()).ok()
    }
}
