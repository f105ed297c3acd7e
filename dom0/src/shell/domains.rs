//! `xl list`, `domid`, `domname`, `vcpu-list`, `uptime`: what there is, and what it is called.
//!
//! The text is made in one go, without waiting in between, so that it shows one moment.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dom0_core::disk::Disk;
use dom0_core::domain::DOM0_NAME;
use dom0_core::format::{
    DomainRow, LongDomain, StateFlags, VcpuRow, domain_list, list_long, uptime_head, uptime_line, uptime_short,
    vcpu_list,
};
use dom0_core::layout::GicVersion;
use dom0_core::shell::DomainRef;
use dom0_core::uuid::Uuid;
use dom0_core::vif::Vif;
use hypercall_abi::control::VcpuState;
use hypercall_abi::ids::{DomId, VcpuId};
use pv_guest_lib::control::{self, Cap, DomainInfo};

use super::{Failure, Outcome, Shell};
use crate::toolstack::uptime_ns;

/// Pages of 4 KiB in a MiB.
const PAGES_PER_MIB: u64 = 256;
const NS_PER_SECOND: u64 = 1_000_000_000;

impl Shell {
    /// `xl list`.
    pub(super) async fn list(&self, long: bool, verbose: bool, domains: &[DomainRef]) -> Outcome {
        let infos = self.chosen(domains)?;
        let text = if long { self.long_list(&infos)? } else { self.short_list(&infos, verbose)? };
        self.say(&text).await
    }

    /// The domains that were named, or all.
    pub(super) fn chosen(&self, domains: &[DomainRef]) -> Result<Vec<(DomId, DomainInfo)>, Failure> {
        if domains.is_empty() {
            return Ok(self.toolstack.infos());
        }
        domains.iter().map(|domain| self.one(domain)).collect()
    }

    pub(super) fn one(&self, domain: &DomainRef) -> Result<(DomId, DomainInfo), Failure> {
        let missing = |id: &DomId| Failure(format!("Error: Domain '{id}' does not exist."));
        let found = self.toolstack.register.borrow().domid(domain);
        let domid = match (found, domain) {
            (Ok(domid), _) => domid,
            (Err(_), DomainRef::Id(id)) => return Err(missing(id)),
            (Err(error), DomainRef::Name(_)) => return Err(error.into()),
        };
        let info = self.toolstack.info(domid).map_err(|_| missing(&domid))?;
        Ok((domid, info))
    }

    fn short_list(&self, infos: &[(DomId, DomainInfo)], verbose: bool) -> Result<String, Failure> {
        let register = self.toolstack.register.borrow();
        let rows = infos.iter().map(|(domid, info)| DomainRow {
            name: register.name(*domid).unwrap_or_default(),
            domid: domid.0,
            memory_mib: info.pages / PAGES_PER_MIB,
            vcpus: info.online_vcpus,
            state: StateFlags::from(info),
            cpu_ns: info.cpu_ns,
            uuid: register.by_domid(*domid).map_or_else(Uuid::default, |domain| domain.uuid),
        });
        let mut text = String::new();
        domain_list(&mut text, rows, verbose)?;
        Ok(text)
    }

    fn long_list(&self, infos: &[(DomId, DomainInfo)]) -> Result<String, Failure> {
        let disks: Vec<Vec<Disk>> = infos.iter().map(|(domid, _)| self.disks_of(*domid)).collect();
        let vifs: Vec<Vec<Vif>> = infos.iter().map(|(domid, _)| self.vifs_of(*domid)).collect();
        let register = self.toolstack.register.borrow();
        let gic = GicVersion::from_number(control::platform_info()?.gic_version);
        let domains = infos.iter().zip(disks.iter().zip(&vifs)).map(|((domid, info), (disks, vifs))| {
            let domain = register.by_domid(*domid);
            LongDomain {
                domid: domid.0,
                name: register.name(*domid).unwrap_or_default(),
                uuid: domain.map_or_else(Uuid::default, |domain| domain.uuid),
                memory_mib: info.pages / PAGES_PER_MIB,
                max_vcpus: info.vcpus,
                vcpus: info.online_vcpus,
                gic,
                config: domain.map(|domain| &domain.config),
                disks,
                vifs,
            }
        });
        let mut text = String::new();
        list_long(&mut text, domains)?;
        Ok(text)
    }

    /// `xl domid`.
    pub(super) async fn domid(&self, name: &str) -> Outcome {
        let found = self.toolstack.register.borrow().domid(&DomainRef::Name(name.into()));
        let domid = found.map_err(|_| {
            Failure(format!("Can't get domid of domain name '{name}', maybe this domain does not exist."))
        })?;
        self.say(&format!("{domid}")).await
    }

    /// `xl domname`.
    pub(super) async fn domname(&self, domid: DomId) -> Outcome {
        let found = self.toolstack.register.borrow().name(domid).map(String::from);
        let name = found.ok_or_else(|| {
            Failure(format!("Can't get domain name of domain id '{domid}', maybe this domain does not exist."))
        })?;
        self.say(&name).await
    }

    /// `xl vcpu-list`.
    pub(super) async fn vcpu_list(&self, domains: &[DomainRef]) -> Outcome {
        let infos = self.chosen(domains)?;
        let text = self.vcpu_text(&infos)?;
        self.say(&text).await
    }

    fn vcpu_text(&self, infos: &[(DomId, DomainInfo)]) -> Result<String, Failure> {
        let pcpus = control::platform_info()?.pcpus;
        let register = self.toolstack.register.borrow();
        let mut rows = Vec::new();
        for (domid, info) in infos {
            let name = register.name(*domid).unwrap_or_default();
            self.toolstack.with_cap(*domid, |cap| {
                rows.extend((0..info.vcpus).filter_map(|vcpu| vcpu_row(cap, name, *domid, vcpu)));
            })?;
        }
        let mut text = String::new();
        vcpu_list(&mut text, rows, pcpus)?;
        Ok(text)
    }

    /// `xl uptime`.
    pub(super) async fn uptime(&self, short: bool, domains: &[DomainRef]) -> Outcome {
        let infos = self.chosen(domains)?;
        let text = self.uptime_text(&infos, short)?;
        self.say(&text).await
    }

    fn uptime_text(&self, infos: &[(DomId, DomainInfo)], short: bool) -> Result<String, Failure> {
        let now = uptime_ns();
        let register = self.toolstack.register.borrow();
        let mut text = String::new();
        if !short {
            uptime_head(&mut text)?;
        }
        for (domid, _) in infos {
            // Dom0 is as old as the machine's uptime.
            let domain = register.by_domid(*domid);
            let (name, created) = domain.map_or((DOM0_NAME, 0), |domain| (domain.name.as_str(), domain.created_ns));
            let age = now.saturating_sub(created) / NS_PER_SECOND;
            if short {
                uptime_short(&mut text, now / NS_PER_SECOND, name, domid.0, age)?;
            } else {
                uptime_line(&mut text, name, domid.0, age)?;
            }
        }
        Ok(text)
    }
}

fn vcpu_row(cap: Cap, name: &str, domid: DomId, vcpu: u32) -> Option<VcpuRow<'_>> {
    let info = control::vcpu_info(cap, VcpuId(vcpu)).ok()?;
    let is = |state: VcpuState| info.state == state.raw();
    Some(VcpuRow {
        name,
        domid: domid.0,
        vcpu,
        pcpu: (!is(VcpuState::Offline)).then_some(info.pcpu),
        running: is(VcpuState::Running),
        blocked: is(VcpuState::Blocked),
        cpu_ns: info.cpu_ns,
        affinity: info.affinity,
        soft_affinity: info.soft_affinity,
    })
}
