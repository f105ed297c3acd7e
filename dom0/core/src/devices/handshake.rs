//! The XenBus handshake from a back end's side: what to do when either side's state changes.
//!
//! The front end is hostile: it may announce any state at any time. Every pair of states has an answer, and none of them
//! connects twice or serves a device that is not connected.

use hypercall_abi::xenbus::XenbusState;

/// What a back end does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing; wait for another change.
    Wait,
    /// Open the storage, publish features, and go to `InitWait`.
    Prepare,
    /// Read the front end's ring and port, map them, publish the geometry, and go to `Connected`.
    Connect,
    /// Finish requests, unmap the ring, and go to this state.
    Disconnect(XenbusState),
    /// Disconnect, go to `Closed` and forget the device; the toolstack removes its nodes.
    Remove,
}

/// The next step of a back end in state `back` whose front end is in state `front`. `online` is the back end's node of
/// that name: the toolstack clears it to take the device away. A directory that is gone reads as `Unknown`.
pub fn next_step(back: XenbusState, front: XenbusState, online: bool) -> Step {
    use XenbusState as S;
    match (back, front) {
        // The back end's directory is gone: the toolstack did not wait, or the domain was destroyed.
        (S::Unknown, _) => Step::Remove,
        (S::Closed, _) if !online => Step::Remove,
        // The toolstack wrote `Closing`: the front end has to follow before the ring may go.
        (S::Closing, S::Closed | S::Unknown | S::Initialising | S::InitWait) => finished(online),
        (S::Closing, S::Initialised | S::Connected | S::Closing | S::Reconfiguring | S::Reconfigured) => Step::Wait,
        (S::Initialising, S::Unknown) => finished(online),
        (S::Initialising, _) => Step::Prepare,
        // A front end that starts over after closing, as after kexec or an unloaded driver.
        (S::Closed, S::Initialising) => Step::Prepare,
        (S::Closed, _) => Step::Wait,
        (S::InitWait, S::Initialised | S::Connected) => Step::Connect,
        // A connected front end that initialises again has lost its rings; close, so that it can start over.
        (S::Connected, S::Initialising | S::InitWait) => Step::Disconnect(S::Closed),
        (_, S::Closing) => Step::Disconnect(S::Closing),
        (_, S::Closed | S::Unknown) => finished(online),
        (
            S::InitWait | S::Initialised | S::Connected | S::Reconfiguring | S::Reconfigured,
            S::Initialising | S::InitWait | S::Initialised | S::Connected | S::Reconfiguring | S::Reconfigured,
        ) => Step::Wait,
    }
}

/// The end of a connection: for good, or until the front end comes back.
fn finished(online: bool) -> Step {
    if online { Step::Disconnect(XenbusState::Closed) } else { Step::Remove }
}
