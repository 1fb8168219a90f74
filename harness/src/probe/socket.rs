//! What a socket is connected to: addresses through a borrowed copy (pidfd_getfd(2)), peers of
//! unix sockets through sock_diag(7), states and other ends of inet sockets through /proc/PID/net.

use std::io::BufRead;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, getpeername,
    getsockname, netlink, recv, send, socket_with, sockopt,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::ledger::snapshot::{FdKind, Identity};

/// A socket in words, such as `tcp 127.0.0.1:80 -> 127.0.0.1:999 (established)`. The link target
/// for other descriptors; empty for what is no descriptor.
///
/// The socket is borrowed for some microseconds: a peer that waits for its end may see it that
/// much later.
pub fn describe(identity: &Identity) -> String {
    let Identity::Fd { owner, number, kind, target, inode, .. } = identity else {
        return String::new();
    };
    if *kind != FdKind::Socket {
        return target.clone();
    }
    match borrow(owner.pid, *number, *inode) {
        Ok(copy) => describe_copy(&copy, owner.pid, *inode),
        // Not ours to borrow, or closed by now: what the tables of the kernel say.
        Err(_) => describe_by_inode(owner.pid, *inode),
    }
    .unwrap_or_else(|| format!("{target}, of unknown peer"))
}

/// The other end of a connected socket as a link target, such as `socket:[4711]`, where it is one
/// of this host and can be found.
pub(super) fn peer(pid: i32, inode: u64) -> Option<String> {
    if let Ok(unix) = unix_diag(inode) {
        return unix.peer.map(|peer| format!("socket:[{peer}]"));
    }
    let table = inet_table(pid);
    let own = table.iter().find(|row| row.inode == inode)?;
    let other = table.iter().find(|row| {
        row.protocol == own.protocol && row.local == own.remote && row.remote == own.local
    })?;
    Some(format!("socket:[{}]", other.inode))
}

/// A TCP socket as the kernel's table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// This end.
    pub local: SocketAddr,
    /// The other end; port 0 of one that listens.
    pub remote: SocketAddr,
    /// Its state, such as `close-wait` or `listening`.
    pub state: &'static str,
    /// Its inode, by which descriptors name it; 0 until some process has it.
    pub inode: u64,
    /// Bytes that were written to it and that the other end has not taken yet.
    pub unsent: u64,
}

impl Tcp {
    /// It waits for connections.
    pub fn listens(&self) -> bool {
        self.state == "listening"
    }

    /// Some process has it: a connection that was not accepted yet has no inode.
    pub fn is_taken(&self) -> bool {
        self.inode != 0
    }

    /// The other end was closed, and this one was not.
    pub fn waits_for_close(&self) -> bool {
        self.state == "close-wait"
    }
}

/// Every TCP socket that some process has, in the network namespace of this process.
pub fn tcp(pid: i32) -> Vec<Tcp> {
    let rows = inet_table(pid).into_iter().filter(|row| row.protocol == "tcp");
    let tcp = |row: InetRow| Tcp {
        local: row.local,
        remote: row.remote,
        state: row.state_name(),
        inode: row.inode,
        unsent: row.unsent,
    };
    rows.map(tcp).collect()
}

fn borrow(pid: i32, number: i32, inode: u64) -> Result<OwnedFd, Errno> {
    let pidfd = pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    let copy = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?;
    // The number may have been given to another.
    if fstat(&copy)?.st_ino == inode { Ok(copy) } else { Err(Errno::BADF) }
}

fn describe_copy(copy: &OwnedFd, pid: i32, inode: u64) -> Option<String> {
    let family = sockopt::socket_domain(copy).ok()?;
    let kind = sockopt::socket_type(copy).ok()?;
    let listens = sockopt::socket_acceptconn(copy).unwrap_or(false);
    if family == AddressFamily::UNIX {
        let unix = unix_diag(inode).unwrap_or_else(|_| Unix {
            kind: u8::try_from(kind.as_raw()).unwrap_or(0),
            listens,
            name: getsockname(copy).ok().and_then(unix_name),
            peer: None,
            known: false,
        });
        return Some(unix.to_string());
    }
    if family != AddressFamily::INET && family != AddressFamily::INET6 {
        let family = match family {
            AddressFamily::NETLINK => "netlink".to_owned(),
            AddressFamily::PACKET => "packet".to_owned(),
            other => format!("family {}", other.as_raw()),
        };
        return Some(format!("{family} socket"));
    }
    let protocol = match kind {
        SocketType::STREAM => "tcp",
        SocketType::DGRAM => "udp",
        _ => "raw ip",
    };
    let local = getsockname(copy).ok().and_then(inet_address)?;
    let remote = getpeername(copy).ok().flatten().and_then(inet_address);
    let state = match remote {
        None if listens => "listening",
        None if local.port() == 0 => "unbound",
        None => "unconnected",
        Some(_) => inet_table(pid)
            .iter()
            .find(|row| row.inode == inode)
            .map_or("connected", InetRow::state_name),
    };
    Some(inet_words(protocol, local, remote, state))
}

fn describe_by_inode(pid: i32, inode: u64) -> Option<String> {
    if let Ok(unix) = unix_diag(inode) {
        return Some(unix.to_string());
    }
    let table = inet_table(pid);
    let row = table.iter().find(|row| row.inode == inode)?;
    let remote = Some(row.remote).filter(|remote| remote.port() != 0);
    Some(inet_words(row.protocol, row.local, remote, row.state_name()))
}

fn inet_words(
    protocol: &str,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    state: &str,
) -> String {
    match remote {
        Some(remote) => format!("{protocol} {local} -> {remote} ({state})"),
        None => format!("{protocol} {local} ({state})"),
    }
}

fn inet_address(address: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(address).ok().map(canonical)
}

/// An IPv4 address in IPv6 clothes is that IPv4 address: the other end may well be an IPv4 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn unix_name(address: SocketAddrAny) -> Option<String> {
    let address = rustix::net::SocketAddrUnix::try_from(address).ok()?;
    match (address.path_bytes(), address.abstract_name()) {
        (Some(path), _) if !path.is_empty() => Some(String::from_utf8_lossy(path).into_owned()),
        (_, Some(name)) => Some(format!("@{}", String::from_utf8_lossy(name))),
        _ => None,
    }
}

// Inet: /proc/PID/net (proc_pid_net(5)), which is that of the process' own network namespace.

/// A row of /proc/PID/net/tcp and its like; sockets that no process holds (TIME_WAIT) left out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InetRow {
    protocol: &'static str,
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
    unsent: u64,
}

impl InetRow {
    fn parse(protocol: &'static str, line: &str) -> Option<InetRow> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let row = InetRow {
            protocol,
            local: parse_address(fields.get(1)?)?,
            remote: parse_address(fields.get(2)?)?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
            unsent: u64::from_str_radix(fields.get(4)?.split(':').next()?, 16).ok()?,
        };
        Some(row).filter(|row| row.inode != 0)
    }

    /// As in net/tcp_states.h; a UDP socket is either established or closed.
    fn state_name(&self) -> &'static str {
        match (self.protocol, self.state) {
            ("udp", 1) => "connected",
            ("udp", _) => "unconnected",
            (_, 1) => "established",
            (_, 2) => "syn-sent",
            (_, 3) => "syn-received",
            (_, 4) => "fin-wait-1",
            (_, 5) => "fin-wait-2",
            (_, 6) => "time-wait",
            (_, 7) => "closed",
            (_, 8) => "close-wait",
            (_, 9) => "last-ack",
            (_, 10) => "listening",
            (_, 11) => "closing",
            _ => "in an unknown state",
        }
    }
}

fn inet_table(pid: i32) -> Vec<InetRow> {
    let mut rows = Vec::new();
    for (protocol, file) in [("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")] {
        let Ok(file) = std::fs::File::open(format!("/proc/{pid}/net/{file}")) else { continue };
        let lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
        rows.extend(lines.filter_map(|line| InetRow::parse(protocol, &line)));
    }
    rows
}

/// `0100007F:1F90`: 32-bit words of the address as this host's memory has them, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for at in 0..4 {
                octets[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

// Unix: sock_diag(7), one socket asked for by its inode. Only sockets of our own network
// namespace are found.

/// What sock_diag says of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unix {
    kind: u8,
    listens: bool,
    name: Option<String>,
    pub(super) peer: Option<u32>,
    /// The peer was asked for: none means there is none.
    known: bool,
}

impl std::fmt::Display for Unix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            1 => "stream",
            2 => "datagram",
            5 => "seqpacket",
            _ => "other",
        };
        write!(f, "unix {kind}")?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match self.peer {
            Some(peer) => write!(f, " -> socket:[{peer}] (connected)"),
            None if self.listens => f.write_str(" (listening)"),
            None if self.known => f.write_str(" (no peer)"),
            None => f.write_str(" (unknown peer)"),
        }
    }
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const AF_UNIX: u8 = 1;
const TCP_LISTEN: u8 = 10;
/// nlmsghdr and unix_diag_msg are 16 bytes each, rtattr is 4.
const HEADER: usize = 16;

/// Asks the kernel for one unix socket.
pub(super) fn unix_diag(inode: u64) -> Result<Unix, Errno> {
    let inode = u32::try_from(inode).map_err(|_| Errno::NOENT)?;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&socket, &unix_request(inode), SendFlags::empty())?;
    let mut reply = [0; 4096];
    // The kernel answers before send() returns.
    let (length, _) = recv(&socket, &mut reply, RecvFlags::DONTWAIT)?;
    parse_unix_reply(&reply[..length.min(4096)])
}

fn unix_request(inode: u32) -> Vec<u8> {
    let mut request = Vec::with_capacity(40);
    request.extend(40_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence number and port: one request, one reply
    request.extend([AF_UNIX, 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes()); // in any state
    request.extend(inode.to_ne_bytes());
    request.extend((UDIAG_SHOW_NAME | UDIAG_SHOW_PEER).to_ne_bytes());
    request.extend([0xff; 8]); // no cookie
    request
}

fn parse_unix_reply(reply: &[u8]) -> Result<Unix, Errno> {
    let malformed = Errno::BADMSG;
    let header = reply.get(..HEADER).ok_or(malformed)?;
    let length = word(header, 0).ok_or(malformed)? as usize;
    let body = reply.get(HEADER..length).ok_or(malformed)?;
    match half(header, 4) {
        Some(SOCK_DIAG_BY_FAMILY) => {}
        Some(NLMSG_ERROR) => {
            let code = word(body, 0).ok_or(malformed)?.cast_signed();
            return Err(Errno::from_raw_os_error(code.saturating_neg().clamp(1, 4095)));
        }
        _ => return Err(malformed),
    }
    let [AF_UNIX, kind, state, ..] = *body else { return Err(malformed) };
    let mut unix = Unix { kind, listens: state == TCP_LISTEN, name: None, peer: None, known: true };
    let mut attributes = body.get(HEADER..).ok_or(malformed)?;
    while let (Some(length), Some(name)) = (half(attributes, 0), half(attributes, 2)) {
        let length = usize::from(length);
        let value = attributes.get(4..length).ok_or(malformed)?;
        match name {
            UNIX_DIAG_NAME => unix.name = diag_name(value),
            // A peer that was closed is still named, by no inode.
            UNIX_DIAG_PEER => unix.peer = word(value, 0).filter(|&peer| peer != 0),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(unix)
}

/// An abstract name begins with a zero byte, written `@` by ss(8) and others.
fn diag_name(value: &[u8]) -> Option<String> {
    match value {
        [] => None,
        [0, rest @ ..] => Some(format!("@{}", String::from_utf8_lossy(rest))),
        path => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            Some(String::from_utf8_lossy(&path[..end]).into_owned())
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut reply = Vec::new();
        reply.extend(u32::try_from(HEADER + body.len()).expect("short").to_ne_bytes());
        reply.extend(kind.to_ne_bytes());
        reply.extend([0; 10]);
        reply.extend(body);
        reply
    }

    fn attribute(name: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = u16::try_from(4 + value.len()).expect("short").to_ne_bytes().to_vec();
        attribute.extend(name.to_ne_bytes());
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    #[test]
    fn a_reply_names_the_socket_and_its_peer() {
        let mut body = vec![AF_UNIX, 1, 1, 0];
        body.extend([0; 12]);
        body.extend(attribute(UNIX_DIAG_NAME, b"\0hello"));
        body.extend(attribute(UNIX_DIAG_PEER, &77_u32.to_ne_bytes()));
        let unix = parse_unix_reply(&reply(SOCK_DIAG_BY_FAMILY, &body)).expect("a socket");
        assert_eq!(unix.to_string(), "unix stream @hello -> socket:[77] (connected)");
    }

    #[test]
    fn a_refusal_is_an_error() {
        let body = (-2_i32).to_ne_bytes();
        assert_eq!(parse_unix_reply(&reply(NLMSG_ERROR, &body)), Err(Errno::NOENT));
    }

    #[test]
    fn a_cut_or_crooked_reply_is_an_error_and_no_panic() {
        let mut body = vec![AF_UNIX, 1, 10, 0];
        body.extend([0; 12]);
        body.extend(attribute(UNIX_DIAG_NAME, b"/tmp/x"));
        let whole = reply(SOCK_DIAG_BY_FAMILY, &body);
        for end in 0..whole.len() {
            assert!(parse_unix_reply(&whole[..end]).is_err(), "{end}");
        }
        for at in 0..whole.len() {
            let mut crooked = whole.clone();
            crooked[at] ^= 0xff;
            let _ = parse_unix_reply(&crooked);
        }
        let zero_length =
            reply(SOCK_DIAG_BY_FAMILY, &[[AF_UNIX, 1, 1, 0].as_slice(), &[0; 16]].concat());
        assert!(parse_unix_reply(&zero_length).is_err());
    }

    #[test]
    fn a_row_of_the_inet_table() {
        let line = "   3: 0100007F:1F90 0100007F:A3C2 08 00000000:00000001 00:00000000 00000000 \
                     1000        0 4711 1 0000000000000000 20 4 30 10 -1";
        let row = InetRow::parse("tcp", line).expect("a row");
        assert_eq!(row.local, "127.0.0.1:8080".parse().expect("an address"));
        assert_eq!(row.remote, "127.0.0.1:41922".parse().expect("an address"));
        assert_eq!((row.state_name(), row.inode), ("close-wait", 4711));
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode";
        assert_eq!(InetRow::parse("tcp", head), None);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_that_ipv4_address() {
        let address = parse_address("0000000000000000FFFF00000100007F:0050");
        assert_eq!(address, "127.0.0.1:80".parse().ok());
        let address = parse_address("00000000000000000000000001000000:0050");
        assert_eq!(address, "[::1]:80".parse().ok());
    }
}
