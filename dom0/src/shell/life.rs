//! `xl create`, `destroy`, `shutdown`, `reboot`, `pause`, `unpause`, `mem-set`, `rename`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use dom0_core::devices::{identity, paths};
use dom0_core::domain::Handle;
use dom0_core::shell::{ConsoleKind, DomainRef, Target};
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Timer};
use hypercall_abi::ids::DomId;
use pv_guest_lib::control;

use super::{Failure, Outcome, Shell};

/// Between two looks whether a domain is gone.
const LOOK: Duration = Duration::from_millis(20);

impl Shell {
    /// `xl create`. With a console, the domain starts when the console is attached, so that nothing is missed.
    pub(super) async fn create(&self, file: &str, overrides: &[String], console: bool, paused: bool) -> Outcome {
        self.say(&format!("Parsing config from {file}")).await?;
        let domid = self.toolstack.create(file, overrides, paused || console).await?;
        if console {
            if !paused {
                control::unpause(self.toolstack.cap(domid)?)?;
            }
            return self.console(&DomainRef::Id(domid), ConsoleKind::Pv).await;
        }
        Ok(())
    }

    /// `xl destroy`.
    pub(super) async fn destroy(&self, domain: &DomainRef) -> Outcome {
        let handle = self.toolstack.register.borrow().find(domain)?.handle;
        Ok(self.toolstack.destroy(handle).await?)
    }

    /// `xl shutdown` and `xl reboot`: asks the guest through its control node.
    pub(super) async fn ask(&self, target: &Target, request: &str, wait: bool) -> Outcome {
        let asked: Vec<(Handle, DomId)> = {
            let register = self.toolstack.register.borrow();
            match target {
                Target::All => register.iter().filter_map(|domain| Some((domain.handle, domain.domid?))).collect(),
                Target::One(which) => {
                    let domain = register.find(which)?;
                    Vec::from([(domain.handle, domain.domid.unwrap_or(DomId::INVALID))])
                }
            }
        };
        for (_, domid) in &asked {
            let path = format!("{}/control/shutdown", paths::domain(*domid));
            self.store.write(&path, request).map_err(|error| Failure(format!("{path}: {}", error.wire_name())))?;
            self.say(&format!("{} domain {domid}", if request == "reboot" { "Rebooting" } else { "Shutting down" }))
                .await?;
        }
        if wait {
            for (handle, _) in asked {
                self.wait_for_end(handle).await?;
            }
        }
        Ok(())
    }

    async fn wait_for_end(&self, handle: Handle) -> Outcome {
        let gone = async {
            while self.toolstack.register.borrow().get(handle).is_some_and(|domain| {
                // A preserved domain has ended, though it is still there.
                !matches!(domain.life, dom0_core::domain::Life::Preserved(_))
            }) {
                Timer::after(LOOK).await;
            }
        };
        match select(gone, self.terminal.interrupted()).await {
            Either::First(()) => Ok(()),
            Either::Second(()) => Err(Failure(String::from("interrupted: the domain is still shutting down"))),
        }
    }

    fn guest(&self, domain: &DomainRef) -> Result<DomId, Failure> {
        let register = self.toolstack.register.borrow();
        let found = register.find(domain)?;
        found.domid.ok_or_else(|| Failure(format!("{} is being built", found.name)))
    }

    /// `xl pause`.
    pub(super) fn pause(&self, domain: &DomainRef) -> Outcome {
        let domid = self.guest(domain)?;
        Ok(control::pause(self.toolstack.cap(domid)?)?)
    }

    /// `xl unpause`.
    pub(super) fn unpause(&self, domain: &DomainRef) -> Outcome {
        let domid = self.guest(domain)?;
        control::unpause(self.toolstack.cap(domid)?).map_err(|_| Failure(format!("domain {domain} is not paused")))
    }

    /// `xl mem-set`.
    pub(super) fn mem_set(&self, domain: &DomainRef, kib: u64) -> Outcome {
        let domid = self.guest(domain)?;
        let register = self.toolstack.register.borrow();
        let most = register.find(domain)?.config.maxmem_mib << 10;
        if kib > most {
            return Err(Failure(format!("domain {domain} may have {most} KiB at most (key 'maxmem'), not {kib}")));
        }
        Ok(self.toolstack.set_memory(domid, kib)?)
    }

    /// `xl rename`.
    pub(super) fn rename(&self, domain: &DomainRef, name: &str) -> Outcome {
        let (domid, uuid) = {
            let mut register = self.toolstack.register.borrow_mut();
            let renamed = register.rename(domain, name)?;
            (renamed.domid.unwrap_or(DomId::INVALID), renamed.uuid)
        };
        Ok(self.toolstack.write_nodes(&identity(domid, &uuid, name))?)
    }
}
