//! How deep a text of TOML nests, before it is parsed. The parser bounds brackets and dotted keys
//! by themselves, not both together, and drops its tables recursively: ten kilobytes of
//! `{ a.a.a… = { a.a.a… = …` overflow a stack.

/// Levels of brackets and dotted keys; twice as many can come together, below a dotted header.
const LEVELS: usize = 100;

/// Where the text nests too deep, if it does. What is inside strings and comments does not count.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut around: Vec<usize> = Vec::new();
    let mut total = 0;
    let mut dots = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => {
                at = end_of_line(bytes, at);
                continue;
            }
            b'"' | b'\'' => {
                at = after_string(bytes, at);
                continue;
            }
            b'.' => dots += 1,
            b'{' | b'[' => {
                around.push(dots);
                total += dots + 1;
                dots = 0;
            }
            b'}' | b']' => {
                total -= around.pop().map_or(0, |dots| dots + 1);
                dots = 0;
            }
            b',' | b'\n' => dots = 0,
            _ => {}
        }
        if total + dots > LEVELS {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// The first byte after the string that starts here, or the end of the line or text where it has
/// no end.
fn after_string(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let is_long = bytes[start..].starts_with(&[quote; 3]);
    let close: &[u8] = if is_long { &[quote; 3] } else { &[quote] };
    let mut at = start + close.len();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 2,
            b'\n' if !is_long => return at,
            _ if bytes[at..].starts_with(close) => return at + close.len(),
            _ => at += 1,
        }
    }
    bytes.len()
}
