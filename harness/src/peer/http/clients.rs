//! The process of HTTP clients. One client is a session id and its sockets, and lives until its
//! sockets are closed; the process ends with its stdin, and the kernel closes what is left.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::control::{Act, Order, Told};

/// Obeys orders from stdin until it ends. Returns the exit code.
pub fn run() -> io::Result<u8> {
    let mut clients: BTreeMap<String, Sender<Order>> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let name = order.client.clone();
        let orders = clients.entry(name).or_insert_with(|| {
            let (orders, received) = channel();
            thread::spawn(move || {
                let mut client = None;
                for order in received {
                    let told = obey(&mut client, &order);
                    // Whoever does not listen any more has ended stdin, too.
                    let _ = tell(&Told { client: order.client, ..told });
                }
            });
            orders
        });
        orders.send(order).map_err(io::Error::other)?;
    }
    Ok(0)
}

fn tell(told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

fn obey(client: &mut Option<Client>, order: &Order) -> Told {
    let within = Duration::from_millis(order.within_ms);
    match (&order.act, client.as_mut()) {
        (Act::Open { place, passing }, _) => {
            let mut opened = Client::new(place.clone(), *passing);
            let told = opened.open(within);
            if told.error.is_none() {
                *client = Some(opened);
            }
            told
        }
        (_, None) => {
            let error = format!("client {} is not open", order.client);
            Told { error: Some(error), ..Told::default() }
        }
        (Act::Drop | Act::Reset, Some(_)) => match client.take() {
            Some(client) => client.end(order.act == Act::Reset),
            None => Told::default(),
        },
        (act, Some(client)) => client.act(act, within),
    }
}
