//! The names of cursors and of their owners: random, and nothing else.

use std::fmt;

use rustix::{
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

/// 128 bits from the operating system, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 16]);

impl Id {
    /// An id that nobody has had and nobody can guess.
    ///
    /// # Errors
    /// When the operating system gives no random bytes, which Linux does not do once it has booted.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(bytes))
    }

    /// Reads what [`Display`](fmt::Display) writes; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The bytes, for a store that keeps them as such.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Lower case only, so that an id has one spelling.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who holds an id may read the cursor: it stays out of traces.
impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Id(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn an_id_has_one_spelling() {
        let id = Id::random().unwrap();
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        let spelled = "0123456789abcdef0123456789abcdef";
        assert_eq!(Id::parse(spelled).unwrap().to_string(), spelled);
        let long = "0".repeat(33);
        for other in ["", "0", &spelled.to_uppercase(), &spelled.replace('f', "g"), &long] {
            assert_eq!(Id::parse(other), None, "{other}");
        }
        assert_eq!(Id::parse(&"é".repeat(16)), None);
    }

    #[test]
    fn ids_do_not_repeat_and_do_not_show_themselves() {
        let ids: std::collections::HashSet<Id> = (0..1000).map(|_| Id::random().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        let id = ids.into_iter().next().unwrap();
        assert!(!format!("{id:?}").contains(&id.to_string()));
    }
}
