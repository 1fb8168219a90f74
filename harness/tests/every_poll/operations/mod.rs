//! Every async operation of the core's public surface.

mod admin;
mod cursor;
mod host;
mod http;
mod scope;
mod session;
mod stdio;

use crate::operation::Operation;
use cursor::Store::{Memory, Sqlite};

/// All of them, in the order of the table.
pub(crate) const ALL: &[Operation] = &[
    Operation { name: "stdio: connect", make: stdio::connect },
    Operation { name: "stdio: connect to one that dies", make: stdio::connect_to_one_that_dies },
    Operation { name: "stdio: connect to one that is silent", make: stdio::connect_in_vain },
    Operation { name: "stdio: call", make: stdio::call },
    Operation { name: "stdio: call that takes long", make: stdio::long_call },
    Operation { name: "stdio: close", make: stdio::close },
    Operation { name: "stdio: close by its handle", make: stdio::close_by_handle },
    Operation { name: "stdio: close of one that stays", make: stdio::close_of_one_that_stays },
    Operation { name: "stdio: close of one deaf to SIGTERM", make: stdio::close_of_a_deaf_one },
    Operation { name: "stdio: close of one with a helper", make: stdio::close_with_a_helper },
    Operation { name: "host: add", make: host::add },
    Operation { name: "host: add in place of another", make: host::replace },
    Operation { name: "host: add of one that dies", make: host::add_one_that_dies },
    Operation { name: "host: call", make: host::call },
    Operation { name: "host: health", make: host::health },
    Operation { name: "host: remove", make: host::remove },
    Operation { name: "host: remove of one that stays", make: host::remove_one_that_stays },
    Operation { name: "host: shutdown", make: host::shutdown },
    Operation { name: "host: shutdown that overruns", make: host::shutdown_that_overruns },
    Operation { name: "host: scope", make: host::scope },
    Operation { name: "host: add over HTTP", make: http::add },
    Operation { name: "host: remove over HTTP", make: http::remove },
    Operation { name: "http: connect", make: http::connect },
    Operation { name: "http: call", make: http::call },
    Operation { name: "http: call that takes long", make: http::long_call },
    Operation { name: "http: close", make: http::close },
    Operation { name: "http: close by its handle", make: http::close_by_handle },
    Operation { name: "session: open", make: session::open },
    Operation { name: "session: call", make: session::short_call },
    Operation { name: "session: call that takes long", make: session::long_call },
    Operation { name: "session: stream", make: session::stream },
    Operation { name: "session: end by DELETE", make: session::delete },
    Operation { name: "session: end by the server", make: session::remove },
    Operation { name: "session: close of all", make: session::close },
    Operation { name: "session: a life over a socket", make: session::life_over_a_socket },
    Operation { name: "session: close of a server", make: session::close_of_a_server },
    Operation { name: "cursor: put, memory", make: |world| cursor::put(world, Memory) },
    Operation { name: "cursor: read, memory", make: |world| cursor::read(world, Memory) },
    Operation { name: "cursor: remove, memory", make: |world| cursor::remove(world, Memory) },
    Operation {
        name: "cursor: end of a session, memory",
        make: |world| cursor::end_session(world, Memory),
    },
    Operation { name: "cursor: sweep, memory", make: |world| cursor::sweep(world, Memory) },
    Operation { name: "cursor: close, memory", make: |world| cursor::close(world, Memory) },
    Operation { name: "cursor: open, sqlite", make: cursor::opening },
    Operation { name: "cursor: put, sqlite", make: |world| cursor::put(world, Sqlite) },
    Operation { name: "cursor: read, sqlite", make: |world| cursor::read(world, Sqlite) },
    Operation { name: "cursor: remove, sqlite", make: |world| cursor::remove(world, Sqlite) },
    Operation {
        name: "cursor: end of a session, sqlite",
        make: |world| cursor::end_session(world, Sqlite),
    },
    Operation { name: "cursor: sweep, sqlite", make: |world| cursor::sweep(world, Sqlite) },
    Operation { name: "cursor: close, sqlite", make: |world| cursor::close(world, Sqlite) },
    Operation { name: "admin: health", make: admin::health },
    Operation { name: "admin: metrics", make: admin::metrics },
    Operation { name: "admin: add a server", make: admin::post },
    Operation { name: "admin: remove a server", make: admin::delete },
    Operation { name: "admin: close", make: admin::close },
    Operation { name: "scope: start", make: scope::start },
    Operation { name: "scope: close", make: scope::close },
    Operation { name: "cleanup: run", make: scope::cleanup },
];
