//! `xl vcpu-pin`, `vcpu-set`, `sched-credit2`, `cpupool-*`: who runs where and how much.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dom0_core::config::PoolConfig;
use dom0_core::format::{ShareRow, pool_list, share_list};
use dom0_core::pool::Scheduler;
use dom0_core::shell::{DomainRef, Pool};
use hypercall_abi::ids::DomId;
use pv_guest_lib::control::{self, DomainInfo};

use super::{Failure, Outcome, Shell};
use crate::toolstack::Error;

impl Shell {
    /// `xl vcpu-set`.
    pub(super) fn vcpu_set(&self, domain: &DomainRef, count: u32, ignore_host: bool) -> Outcome {
        let (domid, info) = self.one(domain)?;
        // Dom0 has one vCPU and takes no orders.
        self.toolstack.register.borrow().find(domain)?;
        let pcpus = control::platform_info()?.pcpus;
        if count > pcpus && count > info.online_vcpus && !ignore_host {
            // As Xen spells it.
            return Err(Failure(format!(
                "You are overcommmitting! You have {pcpus} physical CPUs and want {count} vCPUs! \
                 Aborting, use --ignore-host to continue"
            )));
        }
        if count > info.vcpus {
            return Err(Failure(format!("Requested {count} VCPUs, however maxcpus is {}!", info.vcpus)));
        }
        Ok(self.toolstack.set_vcpus(domid, count, info.vcpus)?)
    }

    /// `xl sched-credit2`: shows, or changes the one that is named.
    pub(super) async fn share(
        &self,
        domain: Option<&DomainRef>,
        pool: Option<&str>,
        weight: Option<u32>,
        cap: Option<u32>,
    ) -> Outcome {
        let Some(domain) = domain else {
            let text = self.shares(pool)?;
            return self.say(&text).await;
        };
        let (domid, info) = self.one(domain)?;
        if weight.is_some() || cap.is_some() {
            return Ok(self.toolstack.set_share(domid, weight.unwrap_or(info.weight), cap.unwrap_or(info.cap))?);
        }
        let mut text = String::new();
        self.share_rows(&mut text, None, &[(domid, info)])?;
        self.say(&text).await
    }

    /// The shares in one pool or in all that share by weight.
    fn shares(&self, pool: Option<&str>) -> Result<String, Failure> {
        let infos = self.chosen(&[])?;
        let pools = self.toolstack.pools.borrow();
        if let Some(name) = pool {
            pools.find(name).map_err(Error::from)?;
        }
        let mut text = String::new();
        let shown = pools.iter().filter(|one| pool.is_none_or(|name| one.name == name));
        for pool in shown.filter(|pool| pool.scheduler == Scheduler::Credit2) {
            let domains = pools.domains(&pool.name);
            let infos: Vec<_> = infos.iter().filter(|(domid, _)| domains.contains(domid)).copied().collect();
            self.share_rows(&mut text, Some(&pool.name), &infos)?;
        }
        Ok(text)
    }

    fn share_rows(&self, text: &mut String, pool: Option<&str>, infos: &[(DomId, DomainInfo)]) -> Outcome {
        let register = self.toolstack.register.borrow();
        let rows = infos.iter().map(|(domid, info)| ShareRow {
            name: register.name(*domid).unwrap_or_default(),
            domid: domid.0,
            weight: info.weight,
            cap: info.cap,
        });
        Ok(share_list(text, pool, rows)?)
    }

    /// `xl cpupool-*`.
    pub(super) async fn pool(&self, command: Pool) -> Outcome {
        let toolstack = &self.toolstack;
        match command {
            Pool::List { cpus, pool } => {
                let text = self.pool_text(cpus, pool.as_deref())?;
                return self.say(&text).await;
            }
            Pool::Create { file, overrides } => return self.pool_create(file, &overrides).await,
            Pool::Destroy(name) => toolstack.change_pools(|pools| pools.destroy(&name))?,
            Pool::Rename(name, to) => toolstack.change_pools(|pools| pools.rename(&name, &to))?,
            Pool::Add(name, cpus) => toolstack.change_pools(|pools| pools.add_cpus(&name, cpus))?,
            Pool::Remove(name, cpus) => toolstack.change_pools(|pools| pools.remove_cpus(&name, cpus))?,
            Pool::Migrate(domain, name) => {
                let (domid, _) = self.one(&domain)?;
                toolstack.change_pools(|pools| pools.migrate(domid, &name))?;
            }
        }
        Ok(())
    }

    fn pool_text(&self, cpus: bool, name: Option<&str>) -> Result<String, Failure> {
        let pools = self.toolstack.pools.borrow();
        if let Some(name) = name {
            pools.find(name).map_err(Error::from)?;
        }
        let shown = pools.iter().filter(|pool| name.is_none_or(|name| pool.name == name));
        let mut text = String::new();
        pool_list(&mut text, shown.map(|pool| (pool, pools.domains(&pool.name).len())), cpus)?;
        Ok(text)
    }

    async fn pool_create(&self, file: Option<String>, overrides: &[String]) -> Outcome {
        let (source, bytes) = match file {
            Some(path) => {
                let read = self.toolstack.disks.read_file(&path).await;
                let bytes = read.map_err(|error| Error::ConfigFile(path.clone(), error))?;
                (path, bytes)
            }
            None => (String::from("command line"), Vec::new()),
        };
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let config = PoolConfig::parse(&source, &String::from_utf8_lossy(&bytes), &overrides).map_err(Error::from)?;
        Ok(self.toolstack.change_pools(|pools| pools.create(&config.name, config.cpus, config.scheduler))?)
    }
}
