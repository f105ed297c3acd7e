//! What follows when a domain stops by itself: `on_poweroff`, `on_reboot`, `on_crash`.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;

use dom0_core::config::DomainConfig;
use dom0_core::devices::{identity, paths};
use dom0_core::domain::{Domain, Handle, Next};
use dom0_core::uuid::Uuid;
use embassy_time::{Duration, Timer};
use hypercall_abi::control::STATE_SHUTDOWN;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::DomId;
use hypercall_abi::sched::ShutdownReason;
use pv_guest_lib::control;
use pv_guest_lib::evtchn::EventChannel;

use super::create::MAGIC_PAGES;
use super::{Error, Toolstack};

/// A domain that restarts sooner than this after its creation waits, so that a crash loop leaves time for others.
const LEAST_LIFE_NS: u64 = 1_000_000_000;

impl Toolstack {
    /// Says how much memory a domain is to have, in KiB, and lets it have no more. Its balloon driver follows.
    pub fn set_memory(&self, domid: DomId, kib: u64) -> Result<(), Error> {
        let pages = kib / (hypercall_abi::PAGE_SIZE as u64 / 1024) + MAGIC_PAGES;
        control::set_max_pages(self.cap(domid)?, pages)
            .map_err(|error| Error::Hypervisor("setting the domain's limit", error))?;
        let path = format!("{}/memory/target", paths::domain(domid));
        self.store.write(&path, &kib.to_string()).map_err(|error| Error::Store("setting the domain's target", error))
    }

    /// Follows the ends of domains. Never completes.
    pub async fn follow(self: Rc<Self>) {
        let ended = match EventChannel::bind_virq(Virq::DomExc) {
            Ok(channel) => channel,
            Err(error) => {
                log::error!("the ends of domains cannot be followed: {error}");
                return;
            }
        };
        loop {
            ended.notified().await;
            let domids: Vec<_> = self.register.borrow().iter().filter_map(|domain| domain.domid).collect();
            for domid in domids {
                self.look_at(domid);
            }
        }
    }

    fn look_at(self: &Rc<Self>, domid: DomId) {
        let Ok(info) = self.info(domid) else { return };
        if info.state & STATE_SHUTDOWN == 0 {
            return;
        }
        let reason = ShutdownReason::from_raw(info.shutdown_reason).unwrap_or(ShutdownReason::Crash);
        let Some((handle, next)) = self.register.borrow_mut().stopped(domid, reason) else { return };
        self.hub.domain_shut_down(domid);
        let toolstack = Rc::clone(self);
        self.tasks.spawn(async move { toolstack.go_on(handle, next).await });
    }

    async fn go_on(&self, handle: Handle, next: Next) {
        let entry = self.register.borrow().get(handle).cloned();
        let Some(domain) = entry else { return };
        match next {
            Next::Keep | Next::Preserve => return,
            Next::Destroy | Next::Restart => self.take_down(handle, &domain.name).await,
            Next::Dump { .. } => {
                log::warn!("{}: memory dumps are not supported; the domain is destroyed without one", domain.name);
                self.take_down(handle, &domain.name).await;
            }
            Next::RenameRestart => {
                self.set_aside(handle, &domain);
            }
        }
        let again = match next {
            Next::Restart | Next::RenameRestart | Next::Dump { restart: true } => true,
            Next::Keep | Next::Preserve | Next::Destroy | Next::Dump { restart: false } => false,
        };
        if again {
            if super::uptime_ns().saturating_sub(domain.created_ns) < LEAST_LIFE_NS {
                Timer::after(Duration::from_secs(1)).await;
            }
            let name = domain.config.name.clone();
            // The successor is the same domain to those who know it by its UUID, as with xl.
            let config = DomainConfig { uuid: Some(domain.uuid), ..domain.config };
            if let Err(error) = self.create_from(config, false).await {
                log::error!("{name}: restart failed: {error}");
            }
        }
    }

    /// A domain that is kept gets a UUID of its own, since its successor takes over the old one, and its nodes say
    /// what it is called now.
    fn set_aside(&self, handle: Handle, domain: &Domain) {
        let uuid = Uuid::from_random(self.random());
        self.register.borrow_mut().give_uuid(handle, uuid);
        let Some(domid) = domain.domid else { return };
        let renamed = self.write_nodes(&identity(domid, &uuid, &domain.name));
        let forgotten = self.store.remove(&paths::vm(&domain.uuid));
        if renamed.is_err() || forgotten.is_err() {
            log::error!("{}: its nodes in xenstore could not be renamed", domain.name);
        }
    }

    async fn take_down(&self, handle: Handle, name: &str) {
        if let Err(error) = self.destroy(handle).await {
            log::error!("{name}: {error}");
        }
    }
}
