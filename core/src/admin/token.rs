//! The secret that a request has to know.

use std::{fmt, io, sync::Arc};

use subtle::ConstantTimeEq;

/// How many random bytes a made token has.
const RANDOM_BYTES: usize = 32;
/// The shortest token that is accepted: 64 bits, if it is hexadecimal and random.
const SHORTEST: usize = 16;
const LONGEST: usize = 1024;

/// A bearer token. Never printed but by [`reveal`](Self::reveal).
#[derive(Clone)]
pub struct Token(Arc<str>);

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It can be guessed, or does not fit into a header.
    #[error(
        "a token has {SHORTEST} to {LONGEST} characters, and this one has {length}; leave it out \
         and a random one is made"
    )]
    Length {
        /// How many it has.
        length: usize,
    },
    /// It cannot stand in a header.
    #[error("a token has visible ASCII characters only, and this one has another at place {place}")]
    Character {
        /// Which one, from 1.
        place: usize,
    },
}

impl Token {
    /// 32 bytes from the kernel, in hexadecimal.
    ///
    /// # Errors
    /// What `getrandom(2)` reports.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; RANDOM_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            match rustix::rand::getrandom(&mut bytes[filled..], flags) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()))
    }

    /// A token of one's own.
    ///
    /// # Errors
    /// [`TokenError`]; it does not repeat the text.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, TokenError> {
        let text = text.into();
        let length = text.chars().count();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(TokenError::Length { length });
        }
        match text.chars().position(|character| !character.is_ascii_graphic()) {
            Some(index) => Err(TokenError::Character { place: index + 1 }),
            None => Ok(Self(text)),
        }
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that tells nothing but the length.
    pub(super) fn is(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tokens_differ_and_are_tokens() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), 64);
        assert!(Token::new(one.reveal()).is_ok());
        assert!(one.is(one.reveal().as_bytes()));
        assert!(!one.is(other.reveal().as_bytes()));
        assert!(!one.is(&one.reveal().as_bytes()[..63]));
    }

    #[test]
    fn a_token_that_is_short_or_odd_is_refused_without_being_repeated() {
        let short = Token::new("hunter2").unwrap_err();
        assert_eq!(short, TokenError::Length { length: 7 });
        assert!(!short.to_string().contains("hunter2"));
        let odd = Token::new("0123456789 abcdef").unwrap_err();
        assert_eq!(odd, TokenError::Character { place: 11 });
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::new("0123456789abcdef").unwrap()), "Token(…)");
    }
}
