//! The transition table is a snapshot: whoever changes it sees it.

use scupper_core::lifecycle::{Event, State, TransitionTable};

#[test]
fn the_transition_table_is_as_agreed() {
    insta::assert_snapshot!(TransitionTable);
}

#[test]
fn an_illegal_event_names_state_and_event() {
    let error = State::Closed.on(Event::Used).unwrap_err();
    assert_eq!(error.to_string(), "used is illegal on a connection that is closed");
}

#[test]
fn every_life_ends_closed_whatever_happens() {
    let mut reached = vec![State::Connecting];
    for state in State::ALL {
        let events = [Event::CloseRequested, Event::ConnectionLost];
        for event in events.into_iter().filter(|_| state.is_open()) {
            assert_eq!(state.on(event), Ok(State::Closing));
        }
        reached.extend(Event::ALL.iter().filter_map(|event| state.on(*event).ok()));
    }
    assert!(State::ALL.iter().all(|state| reached.contains(state)));
    assert!(
        Event::ALL
            .iter()
            .all(|event| { !State::Closed.on(*event).is_ok_and(|next| next != State::Closed) })
    );
}
