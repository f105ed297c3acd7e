//! How the domain ends.
//!
//! Example: `examples/balloon.rs`.

pub use hypercall_abi::sched::ShutdownReason;

/// Powers the domain off.
pub fn poweroff() -> ! {
    crate::hypercall::shutdown(ShutdownReason::Poweroff)
}

/// Ends the domain for the given reason; what follows is the tool stack's to decide.
pub fn shutdown(reason: ShutdownReason) -> ! {
    crate::hypercall::shutdown(reason)
}

use crate::xenstore::{XenStore, XsError};

/// What the tool stack asks of the domain through its node `control/shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End.
    Poweroff,
    /// End, to be started again.
    Reboot,
    /// Get ready to be saved.
    Suspend,
    /// Something that this library has no name for.
    Unknown,
}

impl Request {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "poweroff" | "halt" => Some(Self::Poweroff),
            "reboot" => Some(Self::Reboot),
            "suspend" => Some(Self::Suspend),
            _ => Some(Self::Unknown),
        }
    }
}

/// Waits until the tool stack asks the domain to end, and returns the reason to end with: what most guests want to end
/// their main with. A wish that the guest cannot fulfil is said on the console; one that can be suspended waits with
/// [`suspend::awaited`](crate::suspend::awaited) instead.
///
/// # Errors
/// As the store refuses.
pub async fn awaited(store: &XenStore) -> Result<ShutdownReason, XsError> {
    loop {
        match requested(store).await? {
            Request::Poweroff => return Ok(ShutdownReason::Poweroff),
            Request::Reboot => return Ok(ShutdownReason::Reboot),
            Request::Suspend | Request::Unknown => {
                crate::console::write(b"control/shutdown asks for what this guest cannot do\r\n");
            }
        }
    }
}

/// Waits until the tool stack asks for something, and acknowledges that it was seen.
///
/// # Errors
/// As the store refuses.
pub async fn requested(store: &XenStore) -> Result<Request, XsError> {
    const NODE: &str = "control/shutdown";
    let mut watch = store.watch(NODE).await?;
    let request = loop {
        watch.changed().await;
        let mut buffer = [0; 32];
        match store.read_text(NODE, &mut buffer).await {
            Ok(text) => {
                if let Some(request) = Request::parse(text) {
                    break request;
                }
            }
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
    };
    store.write(NODE, b"").await?;
    Ok(request)
}
