//! The states of a connection and the one table of moves between them. Pure: no clock, no I/O.
//!
//! The states follow the lifecycle of the protocol (initialization, operation, shutdown; MCP
//! 2025-11-25, "Lifecycle"), plus the one it leaves out: the time between the wish to end and the end.

use std::fmt;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Opened; the peer has not been heard yet.
    Connecting,
    /// The peer has answered; messages flow.
    Active,
    /// The end has begun; nothing may be sent any more.
    Closing,
    /// Everything the connection held has been given back.
    Closed,
}

/// What can happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The first message of the peer arrived.
    Established,
    /// The owner wants to send.
    Used,
    /// The owner asked for the end; asking twice is legal.
    CloseRequested,
    /// The peer went away: end of file, broken pipe, exit.
    ConnectionLost,
    /// Every descriptor, process and task of the connection is gone.
    TornDown,
}

/// An event that the present state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} is illegal on a connection that is {state}")]
pub struct IllegalEvent {
    /// The state at that moment; it stays as it was.
    pub state: State,
    /// The event that was refused.
    pub event: Event,
}

impl State {
    /// All states, in the order of a life.
    pub const ALL: [State; 4] = [State::Connecting, State::Active, State::Closing, State::Closed];

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalEvent`], naming both, when the table has no move for the pair.
    pub fn on(self, event: Event) -> Result<State, IllegalEvent> {
        use Event::*;
        use State::*;
        match (self, event) {
            (Connecting, Established) => Ok(Active),
            (Connecting, Used) => Ok(Connecting),
            (Active, Used) => Ok(Active),
            (Connecting | Active, CloseRequested | ConnectionLost) => Ok(Closing),
            (Closing, CloseRequested | ConnectionLost) => Ok(Closing),
            (Closing, TornDown) => Ok(Closed),
            (Closed, CloseRequested) => Ok(Closed),
            (state, event) => Err(IllegalEvent { state, event }),
        }
    }

    /// May messages still be sent?
    pub fn is_open(self) -> bool {
        matches!(self, State::Connecting | State::Active)
    }
}

impl Event {
    /// All events.
    pub const ALL: [Event; 5] = [
        Event::Established,
        Event::Used,
        Event::CloseRequested,
        Event::ConnectionLost,
        Event::TornDown,
    ];
}

/// The whole table, printable: one line a state, one column an event, `-` where a move is illegal.
#[derive(Clone, Copy, Debug)]
pub struct TransitionTable;

impl fmt::Display for TransitionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12}", "")?;
        for event in Event::ALL {
            write!(f, "{:<17}", event.to_string())?;
        }
        for state in State::ALL {
            write!(f, "\n{:<12}", state.to_string())?;
            for event in Event::ALL {
                let next = state.on(event).map_or("-".to_owned(), |s| s.to_string());
                write!(f, "{next:<17}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Connecting => "connecting",
            State::Active => "active",
            State::Closing => "closing",
            State::Closed => "closed",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Event::Established => "established",
            Event::Used => "used",
            Event::CloseRequested => "close requested",
            Event::ConnectionLost => "connection lost",
            Event::TornDown => "torn down",
        })
    }
}
