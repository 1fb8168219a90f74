//! Credentials do not belong in reports: commands, log lines and remedies pass through here first.

use std::borrow::Cow;

use crate::ledger::{
    snapshot::Identity,
    verdict::{CaseReport, Failure, Finding},
};

use super::event::{RunInfo, ServerReport, SubjectInfo};

/// What stands in a credential's place.
pub const REDACTED: &str = "[redacted]";

/// The text without what looks like a credential: `--token x`, `API_KEY=x`, `Authorization: x`,
/// `https://user:x@host`, `sk-…`. A guess, and rather one too many than one too few.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut next = Next::Free;
    for word in words(text) {
        match word {
            Word::Gap(gap) => out.push_str(gap),
            Word::Text(word) => next = push_word(&mut out, word, next),
        }
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// What the word before says of the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Free,
    /// It is the value of a flag, unless it is a flag itself.
    Value,
    /// It is the value of a header, after the name of a scheme perhaps.
    Header,
}

/// Appends one word, redacted where it must be, and says what it means for the next one.
fn push_word(out: &mut String, word: &str, next: Next) -> Next {
    match next {
        Next::Value if !word.starts_with('-') => return push_secret(out, word),
        Next::Header if SCHEMES.iter().any(|scheme| bare(word).eq_ignore_ascii_case(scheme)) => {
            out.push_str(word);
            return Next::Header;
        }
        Next::Header => return push_secret(out, word),
        Next::Free | Next::Value => {}
    }
    if let Some((quote, inner, rest)) = quoted(word) {
        out.push(quote);
        out.push_str(&redact(inner));
        out.push(quote);
        out.push_str(rest);
        // `"token": "x"`: the key is quoted, the value is the next word.
        return if rest == ":" && is_credential(inner) { Next::Header } else { Next::Free };
    }
    if word == "Bearer" {
        out.push_str(word);
        return Next::Header;
    }
    if word.starts_with('-') && !word.contains(['=', ':']) && is_credential(word) {
        out.push_str(word);
        return Next::Value;
    }
    push_pairs(out, word)
}

/// Appends a word that may hold `key=value` pairs, as in an environment, a URL or JSON.
fn push_pairs(out: &mut String, word: &str) -> Next {
    let mut next = Next::Free;
    for piece in word.split_inclusive(['&', '?', ';', ',', '{', '}']) {
        let (body, end) = match piece.char_indices().next_back() {
            Some((at, '&' | '?' | ';' | ',' | '{' | '}')) => piece.split_at(at),
            _ => (piece, ""),
        };
        next = Next::Free;
        match body.find(['=', ':']) {
            Some(at) if is_credential(&body[..at]) => {
                out.push_str(&body[..=at]);
                let value = &body[at + 1..];
                if value.is_empty() {
                    next = Next::Header;
                } else if SCHEMES.iter().any(|scheme| value.eq_ignore_ascii_case(scheme)) {
                    out.push_str(value);
                    next = Next::Header;
                } else {
                    push_secret(out, value);
                }
            }
            _ => push_known(out, body),
        }
        out.push_str(end);
    }
    next
}

/// Appends a text without the password of a URL and without tokens of known forms.
fn push_known(out: &mut String, text: &str) {
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
        if let Some((user, password)) =
            authority.rsplit_once('@').and_then(|(u, _)| u.split_once(':'))
        {
            out.push_str(&format!("{scheme}://{user}:{REDACTED}"));
            return push_known(out, &rest[user.len() + 1 + password.len()..]);
        }
    }
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut rest = text;
    while let Some(start) = rest.find(is_token) {
        let length = rest[start..].find(|c| !is_token(c)).unwrap_or(rest.len() - start);
        let (token, after) = rest[start..].split_at(length);
        out.push_str(&rest[..start]);
        out.push_str(if is_known_token(token) { REDACTED } else { token });
        rest = after;
    }
    out.push_str(rest);
}

/// Appends the mark, inside the quotes of what it stands for.
fn push_secret(out: &mut String, word: &str) -> Next {
    let bare = word.trim_matches(['\'', '"', ',', ';', '{', '}']);
    if bare.strip_prefix('$').is_some_and(|name| {
        let name = name.trim_matches(['{', '}']);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }) {
        // The name of a variable, whose value was not put in.
        out.push_str(word);
        return Next::Free;
    }
    match quoted(word) {
        Some((quote, _, rest)) => {
            out.push(quote);
            out.push_str(REDACTED);
            out.push(quote);
            out.push_str(rest);
        }
        None => {
            let end = word.trim_end_matches(['\'', '"', ',', ';', '}', ']', ')']).len();
            let start = word[..end].len() - word[..end].trim_start_matches(['\'', '"']).len();
            out.push_str(&word[..start]);
            out.push_str(REDACTED);
            out.push_str(&word[end..]);
        }
    }
    Next::Free
}

/// Words of the Authorization header that stand before the credential.
const SCHEMES: &[&str] = &["bearer", "basic", "digest", "negotiate", "token", "apikey"];

/// How well-known kinds of tokens begin.
const TOKEN_STARTS: &[&str] = &[
    "sk-",
    "sk_",
    "rk_",
    "pk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "hf_",
    "npm_",
    "pypi-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "ntn_",
    "lin_api_",
    "dop_v1_",
    "figd_",
    "pat_",
];

fn is_known_token(token: &str) -> bool {
    TOKEN_STARTS.iter().any(|start| {
        token
            .strip_prefix(start)
            .is_some_and(|rest| rest.len() >= 6 && rest.contains(|c: char| c.is_ascii_digit()))
    })
}

/// Whether a value under this name is one to hide: the last words of the name decide, so that
/// `--token-file` and `max_tokens` stay.
pub(super) fn is_credential(name: &str) -> bool {
    const SECRET: &[&str] = &[
        "token",
        "secret",
        "password",
        "passwd",
        "passphrase",
        "apikey",
        "authorization",
        "credential",
        "credentials",
        "cookie",
        "bearer",
        "pat",
        "jwt",
        "signature",
    ];
    const KEYS: &[&str] = &["api", "access", "private", "secret", "auth", "signing", "encryption"];
    let words = name_words(name);
    let Some((last, before)) = words.split_last() else { return false };
    if before.last().is_some_and(|word| word == "progress") || words[0] == "no" {
        return false;
    }
    SECRET.contains(&last.as_str())
        || SECRET.iter().any(|secret| secret.len() > 5 && last.ends_with(secret))
        || (last == "key" && before.last().is_some_and(|word| KEYS.contains(&word.as_str())))
}

/// The words of a name in lower case: `--api-key`, `API_KEY` and `apiKey` are the same.
fn name_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous = ' ';
    for c in name.chars() {
        let boundary =
            !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && previous.is_ascii_lowercase());
        if boundary {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        previous = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A word or the white space before it.
enum Word<'a> {
    Gap(&'a str),
    Text(&'a str),
}

/// Splits at white space outside quotes. A quote opens only where a word, or a value in one, begins
/// and only if it closes, so that "it's" is a word.
fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = if first.is_whitespace() {
            rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len())
        } else {
            word_end(rest)
        };
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(if first.is_whitespace() { Word::Gap(word) } else { Word::Text(word) })
    })
}

fn word_end(text: &str) -> usize {
    let mut previous = ' ';
    let mut skip_until = 0;
    for (at, c) in text.char_indices() {
        if at < skip_until {
            continue;
        }
        if c.is_whitespace() {
            return at;
        }
        if matches!(c, '\'' | '"')
            && matches!(previous, ' ' | '=' | ':')
            && let Some(length) = text[at + 1..].find(c)
        {
            skip_until = at + 1 + length + 1;
        }
        previous = c;
    }
    text.len()
}

/// A word that begins with a closed quotation: the quote, what is inside, what follows.
fn quoted(word: &str) -> Option<(char, &str, &str)> {
    let quote = word.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (inner, rest) = word[1..].split_once(quote)?;
    Some((quote, inner, rest))
}

fn bare(word: &str) -> &str {
    word.trim_matches(['\'', '"'])
}

/// A case with every text redacted that a subject or a user may have put a credential into.
pub(super) fn case(case: &CaseReport) -> CaseReport {
    let mut case = case.clone();
    each_text(&mut case, &mut hide);
    case
}

/// Every text of a case that a subject or a user may have put a credential into.
pub(super) fn each_text(case: &mut CaseReport, change: &mut dyn FnMut(&mut String)) {
    change(&mut case.subject);
    change(&mut case.repeat);
    for texts in [&mut case.unmet, &mut case.notes, &mut case.unreadable] {
        texts.iter_mut().for_each(&mut *change);
    }
    case.lives.listed.iter_mut().for_each(|life| change(&mut life.what));
    case.findings.iter_mut().for_each(|finding| each_text_of_finding(finding, change));
    if let Some(Failure { message, output, step: _, not_started: _, refused: _ }) =
        &mut case.failure
    {
        change(message);
        output.iter_mut().for_each(change);
    }
}

fn each_text_of_finding(finding: &mut Finding, change: &mut dyn FnMut(&mut String)) {
    change(&mut finding.what);
    change(&mut finding.blame);
    change(&mut finding.hurts);
    change(&mut finding.remedy);
    finding.evidence.iter_mut().for_each(&mut *change);
    for holder in &mut finding.holders {
        change(&mut holder.command);
        change(&mut holder.holds);
    }
    for identity in &mut finding.identities {
        match identity {
            Identity::Fd { target: text, .. } | Identity::File { path: text, .. } => change(text),
            Identity::Session { keeper: one, id: other }
            | Identity::Cursor { store: one, id: other }
            | Identity::Entry { registry: one, key: other } => {
                change(one);
                change(other);
            }
            Identity::Process(_) | Identity::Thread { .. } | Identity::Task { .. } => {}
        }
    }
}

/// What a run is about, redacted.
pub(super) fn run(info: &RunInfo) -> RunInfo {
    let mut info = info.clone();
    hide(&mut info.subject);
    hide(&mut info.repeat);
    info
}

/// What a server said of itself, redacted.
pub(super) fn subject(info: &SubjectInfo) -> SubjectInfo {
    let mut info = info.clone();
    info.launchers.iter_mut().for_each(hide);
    info
}

/// What came of one server of several, redacted.
pub(super) fn server(report: &ServerReport) -> ServerReport {
    let mut report = report.clone();
    report.command.iter_mut().for_each(hide);
    report.not_judged.iter_mut().for_each(hide);
    report.subject = report.subject.as_ref().map(subject);
    report
}

fn hide(text: &mut String) {
    if let Cow::Owned(redacted) = redact(text) {
        *text = redacted;
    }
}

#[cfg(test)]
mod tests {
    use super::redact;

    /// Before and after.
    const HIDDEN: &[(&str, &str)] = &[
        ("srv --token abc --port 1", "srv --token [redacted] --port 1"),
        ("srv --api-key=abc x", "srv --api-key=[redacted] x"),
        ("srv --apiKey 'a b' x", "srv --apiKey '[redacted]' x"),
        ("GITHUB_TOKEN=abc node x.js", "GITHUB_TOKEN=[redacted] node x.js"),
        ("env API_KEY='a b' node", "env API_KEY='[redacted]' node"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=[redacted]"),
        ("-H 'Authorization: Bearer abc' -v", "-H 'Authorization: Bearer [redacted]' -v"),
        ("--header Authorization:abc", "--header Authorization:[redacted]"),
        ("sent Authorization: Basic YWJj now", "sent Authorization: Basic [redacted] now"),
        ("X-Api-Key: abc", "X-Api-Key: [redacted]"),
        (r#"{"token":"abc","a":1}"#, r#"{"token":"[redacted]","a":1}"#),
        (r#"{ "password": "abc", "a": 1 }"#, r#"{ "password": "[redacted]", "a": 1 }"#),
        ("https://u:abc@host/p", "https://u:[redacted]@host/p"),
        ("https://host/p?token=abc&a=1", "https://host/p?token=[redacted]&a=1"),
        ("key sk-proj-4f9a8b7c6d ok", "key [redacted] ok"),
        ("(ghp_0123456789abcdef)", "([redacted])"),
        ("postgres://u:p%40ss@db:5432/x", "postgres://u:[redacted]@db:5432/x"),
        ("node x.js --password=", "node x.js --password="),
    ];

    const KEPT: &[&str] = &[
        "node dist/index.js --token-file /run/token",
        "srv --max-tokens 100 max_tokens=100",
        "python -m mcp_server_sk-learn",
        "task-20260101 is due",
        "it's the server's duty, isn't it",
        "http://127.0.0.1:3011/mcp?page=2",
        "progressToken: 7",
        "srv --no-password index.js",
        "fd 5 has the write end of pipe:[4711]",
        "kept by its environment cookie",
        "srv --token --verbose",
        "",
    ];

    #[test]
    fn credentials_of_every_form_are_hidden() {
        for (before, after) in HIDDEN {
            assert_eq!(redact(before), *after);
        }
    }

    #[test]
    fn what_only_looks_similar_is_kept() {
        for text in KEPT {
            assert_eq!(redact(text), *text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_and_redacting_twice_changes_nothing(text in "[a-z'\"=:/@& {}é-]{0,40}|.{0,40}") {
            let once = redact(&text).into_owned();
            proptest::prop_assert_eq!(redact(&once).into_owned(), once);
        }
    }
}
