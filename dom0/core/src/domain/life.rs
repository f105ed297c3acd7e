//! The life of a domain, and what its configuration makes of its end.

use hypercall_abi::sched::ShutdownReason;

use crate::config::{Action, DomainConfig};

/// Where a domain is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// `xl create` is at work; its name is taken, and a failure leaves nothing.
    Building,
    /// It runs, or could.
    Live,
    /// It has stopped; what follows is being done.
    Stopped(ShutdownReason),
    /// It has stopped and is kept for examination until `xl destroy`.
    Preserved(ShutdownReason),
    /// It is being taken down.
    Dying,
}

/// What to do with a domain that has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Take it down.
    Destroy,
    /// Take it down, then create it again from the same configuration.
    Restart,
    /// Give it another name and UUID, keep it, and create it again.
    RenameRestart,
    /// Keep it.
    Preserve,
    /// Write its memory to a file, then take it down; and create it again when `restart` is set.
    Dump {
        /// Whether it is created again.
        restart: bool,
    },
    /// Nothing: it waits to be saved or resumed.
    Keep,
}

impl Next {
    /// What `config` says should follow an end for `reason`.
    ///
    /// Xen has keys of their own for a watchdog's expiry and a soft reset; here the nearest of the three decides.
    pub fn after(reason: ShutdownReason, config: &DomainConfig) -> Self {
        match reason {
            ShutdownReason::Poweroff => config.on_poweroff.into(),
            ShutdownReason::Reboot | ShutdownReason::SoftReset => config.on_reboot.into(),
            ShutdownReason::Crash | ShutdownReason::Watchdog => config.on_crash.into(),
            ShutdownReason::Suspend => Self::Keep,
        }
    }
}

impl From<Action> for Next {
    fn from(action: Action) -> Self {
        match action {
            Action::Destroy => Self::Destroy,
            Action::Restart => Self::Restart,
            Action::RenameRestart => Self::RenameRestart,
            Action::Preserve => Self::Preserve,
            Action::CoredumpDestroy => Self::Dump { restart: false },
            Action::CoredumpRestart => Self::Dump { restart: true },
        }
    }
}
