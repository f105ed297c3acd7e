//! XenBus: the states in which a front end and a back end meet (Xen public/io/xenbus.h).
//!
//! The state is a decimal number in the node `state` of each side's directory.

wire_enum! {
    /// `enum xenbus_state`.
    XenbusState: u32 {
        /// The node does not exist or cannot be read.
        Unknown = 0,
        /// Created by the tool stack.
        Initialising = 1,
        /// The back end has read its configuration and waits for the front end.
        InitWait = 2,
        /// The front end has published its rings.
        Initialised = 3,
        /// Running.
        Connected = 4,
        /// One side wants to end.
        Closing = 5,
        /// Ended.
        Closed = 6,
        /// The back end's configuration is being changed.
        Reconfiguring = 7,
        /// The change is complete.
        Reconfigured = 8,
    }
}

impl XenbusState {
    /// The state that the text of a node says; what cannot be parsed is [`XenbusState::Unknown`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.trim().parse().ok().and_then(Self::from_raw).unwrap_or(Self::Unknown)
    }

    /// The text of the node.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "0",
            Self::Initialising => "1",
            Self::InitWait => "2",
            Self::Initialised => "3",
            Self::Connected => "4",
            Self::Closing => "5",
            Self::Closed => "6",
            Self::Reconfiguring => "7",
            Self::Reconfigured => "8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_text() {
        for &state in XenbusState::ALL {
            assert_eq!(XenbusState::parse(state.as_str()), state);
        }
    }

    #[test]
    fn nonsense_is_the_unknown_state() {
        for text in ["", "9", "-1", "x", "4x"] {
            assert_eq!(XenbusState::parse(text), XenbusState::Unknown);
        }
    }
}
