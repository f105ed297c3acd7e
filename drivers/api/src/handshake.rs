//! The XenBus side of a back end's device, as a state machine without a store: the same for every kind of device.
//!
//! The host feeds in what it sees (the front end's state, whether the tool stack wants the device, how a
//! connection went) and carries out the [`Action`]s it gets back, in order and to their end. The transitions are those
//! that Linux's front ends were written against: `InitWait` -> `Connected` -> `Closing` -> `Closed`, and from there
//! back to `InitWait` when a new kernel in the same domain sets its front end up again.

use alloc::vec::Vec;

use hypercall_abi::xenbus::XenbusState;

/// Something for the host to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write what the back end offers into its directory.
    Publish,
    /// Write the back end's `state`.
    SetState(XenbusState),
    /// Read the front end's keys and connect; report with [`Handshake::connected`].
    Connect,
    /// Stop the running back end and wait until it has ended.
    Disconnect,
    /// Remove the back end's directory and forget the device; the last action there is.
    Remove,
}

/// Where the device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Published; the front end has not offered a ring.
    Waiting,
    /// The host was told to connect and has not reported yet.
    Connecting,
    /// A back end runs.
    Connected,
    /// The end was announced; a back end may still run (`true`) until the front end has closed.
    Closing { running: bool },
    /// Both ends are closed; the front end may come back.
    Closed,
    /// Nothing is left.
    Removed,
}

/// The state of one device.
#[derive(Debug)]
pub struct Handshake {
    phase: Phase,
    /// The tool stack wants the device; once it does not, the device goes when the front end closes.
    online: bool,
}

impl Handshake {
    /// A device whose directory the tool stack has made, and what to do first.
    pub fn new() -> (Self, Vec<Action>) {
        let device = Self { phase: Phase::Waiting, online: true };
        let first = alloc::vec![Action::Publish, Action::SetState(XenbusState::InitWait)];
        (device, first)
    }

    /// Whether the device is gone.
    pub fn is_removed(&self) -> bool {
        self.phase == Phase::Removed
    }

    /// The front end's `state` is `state`; [`XenbusState::Unknown`] when the node is gone.
    pub fn front_end(&mut self, state: XenbusState) -> Vec<Action> {
        match state {
            XenbusState::Initialising => match self.phase {
                Phase::Closed if self.online => {
                    self.phase = Phase::Waiting;
                    alloc::vec![Action::Publish, Action::SetState(XenbusState::InitWait)]
                }
                // Its kernel was replaced without closing: the old ring means nothing any more.
                Phase::Connected => {
                    self.phase = Phase::Waiting;
                    alloc::vec![Action::Disconnect, Action::Publish, Action::SetState(XenbusState::InitWait),]
                }
                Phase::Waiting | Phase::Connecting | Phase::Closing { .. } | Phase::Closed | Phase::Removed => {
                    Vec::new()
                }
            },
            XenbusState::Initialised | XenbusState::Connected => match self.phase {
                Phase::Waiting => {
                    self.phase = Phase::Connecting;
                    alloc::vec![Action::Connect]
                }
                Phase::Connecting | Phase::Connected | Phase::Closing { .. } | Phase::Closed | Phase::Removed => {
                    Vec::new()
                }
            },
            XenbusState::Closing => match self.phase {
                Phase::Waiting | Phase::Connecting => self.close(false),
                Phase::Connected => self.close(true),
                Phase::Closing { .. } | Phase::Closed | Phase::Removed => Vec::new(),
            },
            XenbusState::Closed => self.front_end_closed(),
            XenbusState::Unknown => self.remove(),
            XenbusState::InitWait | XenbusState::Reconfiguring | XenbusState::Reconfigured => Vec::new(),
        }
    }

    /// The outcome of [`Action::Connect`].
    pub fn connected(&mut self, success: bool) -> Vec<Action> {
        match (self.phase, success) {
            (Phase::Connecting, true) => {
                self.phase = Phase::Connected;
                alloc::vec![Action::SetState(XenbusState::Connected)]
            }
            (Phase::Connecting, false) => self.close(false),
            (Phase::Waiting | Phase::Connected | Phase::Closing { .. } | Phase::Closed | Phase::Removed, _) => {
                Vec::new()
            }
        }
    }

    /// What the device stands for is another than it was, larger for example: a front end that is connected is told.
    pub fn changed(&self) -> Vec<Action> {
        match self.phase {
            Phase::Waiting | Phase::Connecting => alloc::vec![Action::Publish],
            Phase::Connected => alloc::vec![Action::Publish, Action::SetState(XenbusState::Connected)],
            // Whatever is published next is what it is then.
            Phase::Closing { .. } | Phase::Closed | Phase::Removed => Vec::new(),
        }
    }

    /// The running back end ended by itself: the front end broke the ring.
    pub fn broken(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Connected => self.close(false),
            Phase::Closing { .. } => {
                self.phase = Phase::Closing { running: false };
                Vec::new()
            }
            Phase::Waiting | Phase::Connecting | Phase::Closed | Phase::Removed => Vec::new(),
        }
    }

    /// The tool stack wants the device gone (`online` = 0): ask the front end to let go of it.
    pub fn detach(&mut self) -> Vec<Action> {
        self.online = false;
        match self.phase {
            Phase::Waiting | Phase::Connecting => self.close(false),
            Phase::Connected => self.close(true),
            Phase::Closed => self.remove(),
            Phase::Closing { .. } | Phase::Removed => Vec::new(),
        }
    }

    /// The domain is dead or the detach is forced: end at once, whatever the front end says.
    pub fn remove(&mut self) -> Vec<Action> {
        let running = self.is_running();
        if core::mem::replace(&mut self.phase, Phase::Removed) == Phase::Removed {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if running {
            actions.push(Action::Disconnect);
        }
        actions.push(Action::SetState(XenbusState::Closed));
        actions.push(Action::Remove);
        actions
    }

    fn is_running(&self) -> bool {
        match self.phase {
            Phase::Connected | Phase::Closing { running: true } => true,
            Phase::Waiting | Phase::Connecting | Phase::Closing { running: false } | Phase::Closed | Phase::Removed => {
                false
            }
        }
    }

    fn close(&mut self, running: bool) -> Vec<Action> {
        self.phase = Phase::Closing { running };
        alloc::vec![Action::SetState(XenbusState::Closing)]
    }

    fn front_end_closed(&mut self) -> Vec<Action> {
        if !self.online {
            return self.remove();
        }
        let running = self.is_running();
        match core::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Connected | Phase::Closing { .. } | Phase::Connecting | Phase::Waiting => {
                let mut actions = Vec::new();
                if running {
                    actions.push(Action::Disconnect);
                }
                actions.push(Action::SetState(XenbusState::Closed));
                actions
            }
            Phase::Closed => Vec::new(),
            Phase::Removed => {
                self.phase = Phase::Removed;
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Connect, Disconnect, Publish, Remove, SetState};
    use XenbusState as S;

    fn connected() -> Handshake {
        let (mut device, first) = Handshake::new();
        assert_eq!(first, [Publish, SetState(S::InitWait)]);
        assert_eq!(device.front_end(S::Initialising), []);
        assert_eq!(device.front_end(S::Initialised), [Connect]);
        assert_eq!(device.connected(true), [SetState(S::Connected)]);
        assert_eq!(device.front_end(S::Connected), []);
        device
    }

    #[test]
    fn a_front_end_that_closes_and_comes_back_is_served_again() {
        let mut device = connected();
        assert_eq!(device.front_end(S::Closing), [SetState(S::Closing)]);
        assert_eq!(device.front_end(S::Closed), [Disconnect, SetState(S::Closed)]);
        assert_eq!(device.front_end(S::Initialising), [Publish, SetState(S::InitWait)]);
        assert_eq!(device.front_end(S::Initialised), [Connect]);
    }

    #[test]
    fn a_detached_device_goes_when_the_front_end_has_closed() {
        let mut device = connected();
        assert_eq!(device.detach(), [SetState(S::Closing)]);
        assert_eq!(device.front_end(S::Closing), []);
        assert_eq!(device.front_end(S::Closed), [Disconnect, SetState(S::Closed), Remove]);
        assert!(device.is_removed());
        assert_eq!(device.front_end(S::Initialising), []);
    }

    #[test]
    fn a_front_end_that_is_connected_hears_of_a_change_by_the_same_state_once_more() {
        let (device, _) = Handshake::new();
        assert_eq!(device.changed(), [Publish]);
        let mut device = connected();
        assert_eq!(device.changed(), [Publish, SetState(S::Connected)]);
        device.detach();
        assert_eq!(device.changed(), []);
    }

    #[test]
    fn a_kernel_that_vanished_without_closing_gets_a_fresh_device() {
        let mut device = connected();
        assert_eq!(device.front_end(S::Initialising), [Disconnect, Publish, SetState(S::InitWait)]);
    }

    #[test]
    fn a_dead_domain_leaves_nothing_running() {
        let mut device = connected();
        assert_eq!(device.front_end(S::Unknown), [Disconnect, SetState(S::Closed), Remove]);
        assert_eq!(device.remove(), []);
    }

    #[test]
    fn a_broken_ring_closes_the_device_and_is_not_stopped_twice() {
        let mut device = connected();
        assert_eq!(device.broken(), [SetState(S::Closing)]);
        assert_eq!(device.front_end(S::Closed), [SetState(S::Closed)]);
    }

    #[test]
    fn a_failed_connection_closes_the_device() {
        let (mut device, _) = Handshake::new();
        assert_eq!(device.front_end(S::Initialised), [Connect]);
        assert_eq!(device.connected(false), [SetState(S::Closing)]);
        assert_eq!(device.front_end(S::Closed), [SetState(S::Closed)]);
    }

    #[test]
    fn any_sequence_of_events_runs_at_most_one_back_end() {
        // Every sequence of five events: connecting only when nothing runs, disconnecting only what runs.
        let events = 12usize;
        for mut code in 0..events.pow(5) {
            let (mut device, _) = Handshake::new();
            let mut running = false;
            for _ in 0..5 {
                let mut todo = match code % events {
                    9 => device.detach(),
                    10 => device.remove(),
                    11 if running => {
                        running = false;
                        device.broken()
                    }
                    11 => Vec::new(),
                    state => device.front_end(S::ALL[state]),
                };
                code /= events;
                if todo.contains(&Connect) {
                    assert!(!running);
                    running = true;
                    todo = device.connected(true);
                }
                if todo.contains(&Disconnect) {
                    assert!(running);
                    running = false;
                }
                assert!(!(device.is_removed() && running));
            }
        }
    }
}
