//! A mark in the environment of a server, by which its helpers are known wherever they went.
//!
//! Children inherit the environment, so a helper that left the group by `setsid(2)`, and whose
//! parents are gone, still carries the mark. What it cannot see: a program that clears or overwrites
//! its environment, and processes of other users or that are not dumpable, whose environment the
//! kernel hides. It is a mark for telling own helpers from strangers, no proof against a server that
//! means to hide.

use std::{
    ffi::{OsStr, OsString},
    fmt, fs, io,
};

use rustix::{
    process::{Pid, getpid},
    rand::{GetRandomFlags, getrandom},
};
use serde::{Deserialize, Serialize};

use super::sweep::{Member, Stat, every_pid};

/// The variable. A server that is itself a host hands on what it inherited: its value is a list of
/// cookies with colons between, the outermost host's first.
const VARIABLE: &str = "SCUPPER_COOKIE";

/// 128 random bits, a new one for each server that is started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Cookie(u128);

impl Cookie {
    /// # Errors
    /// Where the kernel gives no random bytes.
    pub(crate) fn new() -> io::Result<Self> {
        let mut bytes = [0; 16];
        let got = getrandom(&mut bytes, GetRandomFlags::empty())?;
        if got != bytes.len() {
            return Err(io::Error::other("getrandom gave fewer bytes than asked for"));
        }
        Ok(Self(u128::from_ne_bytes(bytes)))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }

    /// Where it stands in the environment.
    pub(crate) fn variable_name() -> &'static OsStr {
        OsStr::new(VARIABLE)
    }

    /// The variable that marks a child, given what it would have inherited under that name.
    pub(crate) fn variable(self, inherited: Option<&OsStr>) -> (OsString, OsString) {
        let mut value = inherited.map(OsString::from).unwrap_or_default();
        if !value.is_empty() {
            value.push(":");
        }
        value.push(self.to_string());
        (VARIABLE.into(), value)
    }

    /// What this process inherited from hosts above it.
    pub(crate) fn inherited() -> Option<(OsString, OsString)> {
        std::env::var_os(VARIABLE).map(|value| (VARIABLE.into(), value))
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({self})")
    }
}

/// Every living process of our own user that carries one of the cookies, this one left out. One pass
/// over `/proc/PID/environ`: a process that is between fork and exec, or within an exec, may be
/// missed, so look twice.
///
/// # Errors
/// When /proc cannot be listed: then nothing is known, which is not the same as nobody.
pub(crate) fn carriers(cookies: &[Cookie]) -> io::Result<Vec<Member>> {
    if cookies.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<String> = cookies.iter().map(Cookie::to_string).collect();
    let own = getpid();
    let pids = every_pid()?.into_iter().filter(|pid| *pid != own && carries_one(*pid, &wanted));
    Ok(pids
        .filter_map(|pid| {
            let stat = Stat::read(pid).ok()?;
            // Asked again after the identity is known: the number may have changed hands.
            let is_it = !stat.is_dead() && carries_one(pid, &wanted);
            is_it.then(|| Member::seen(pid, stat, true))
        })
        .collect())
}

fn carries_one(pid: Pid, wanted: &[String]) -> bool {
    fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .is_ok_and(|environ| holds_one(&environ, wanted))
}

fn holds_one(environ: &[u8], wanted: &[String]) -> bool {
    environ
        .split(|byte| *byte == 0)
        .filter_map(|pair| pair.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))
        .flat_map(|value| value.split(|byte| *byte == b':'))
        .any(|cookie| wanted.iter().any(|wanted| wanted.as_bytes() == cookie))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_cookie_is_found_in_a_list_and_not_in_a_part_of_a_word() {
        let cookie = Cookie(7);
        let wanted = [cookie.to_string()];
        let with = |value: &OsStr| [b"A=1\0SCUPPER_COOKIE=", value.as_bytes(), b"\0B=2\0"].concat();
        let (_, alone) = cookie.variable(None);
        let (_, nested) = Cookie(8).variable(Some(&alone));
        let (_, inner) = Cookie(9).variable(Some(&nested));
        for value in [&alone, &nested, &inner] {
            assert!(holds_one(&with(value), &wanted), "{value:?}");
        }
        let mut longer = alone.clone();
        longer.push("0");
        assert!(!holds_one(&with(&longer), &wanted));
        assert!(!holds_one(b"XSCUPPER_COOKIE=1\0", &wanted));
        assert!(!holds_one(&with(Cookie(8).variable(None).1.as_os_str()), &wanted));
        assert!(!holds_one(b"", &wanted));
    }

    #[test]
    fn cookies_differ() {
        assert_ne!(Cookie::new().unwrap(), Cookie::new().unwrap());
    }
}
