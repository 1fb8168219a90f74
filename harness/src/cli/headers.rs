//! Headers of the user's: variables are put in, and what is a credential is shown nowhere.

use super::Refusal;
use crate::cell::protocol::{Header, SubjectOrder};
use crate::lifecycle::endpoint::header_parts;
use crate::plan::Case;
use crate::report::{Secrets, names_secret};

/// What stands for a credential that was written out.
pub const HIDDEN: &str = "[redacted]";

/// Headers as they were written, with their variables put in.
pub fn headers(
    written: &[String],
    variable: impl Fn(&str) -> Option<String>,
    secrets: &mut Secrets,
) -> Result<Vec<Header>, Refusal> {
    written.iter().map(|text| header(text, &variable, secrets)).collect()
}

/// Puts variables into the headers that scenario files name.
pub fn put_in(
    cases: &mut [Case],
    variable: impl Fn(&str) -> Option<String>,
    secrets: &mut Secrets,
) -> Result<(), Refusal> {
    for case in cases {
        let SubjectOrder::HttpServer(order) = &mut case.order.subject else { continue };
        for one in &mut order.headers {
            *one = header(&format!("{}: {}", one.name, one.value), &variable, secrets)?;
        }
    }
    Ok(())
}

fn header(
    text: &str,
    variable: &impl Fn(&str) -> Option<String>,
    secrets: &mut Secrets,
) -> Result<Header, Refusal> {
    let wrong = |cause: String| {
        Refusal::usage(format!("--header: {cause}; write --header 'Authorization: Bearer $TOKEN'"))
    };
    let (name, written) = header_parts(text).map_err(wrong)?;
    let mut value = String::new();
    let mut rest = written;
    let mut is_put_in = false;
    while let Some((before, after)) = rest.split_once('$') {
        value.push_str(before);
        let (variable_name, behind) = match after.strip_prefix('{').and_then(|a| a.split_once('}'))
        {
            Some(braced) => braced,
            None => {
                let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !is_of_name(c)).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if variable_name.is_empty() {
            value.push('$');
            rest = after;
            continue;
        }
        let put_in = variable(variable_name).ok_or_else(|| {
            Refusal::usage(format!(
                "--header '{name}: …': the variable {variable_name} is not set; set it in the \
                 environment of scupper"
            ))
        })?;
        secrets.add_credential(&put_in);
        value.push_str(put_in.trim());
        is_put_in = true;
        rest = behind;
    }
    value.push_str(rest);
    if value.chars().any(char::is_control) {
        return Err(wrong(format!("the value of header `{name}` holds a control character")));
    }
    let is_credential = names_secret(name);
    if is_credential {
        secrets.add_credential(&value);
    } else {
        secrets.add(name, &value);
    }
    let shown = if is_credential && !is_put_in { HIDDEN } else { written };
    Ok(Header { name: name.to_owned(), value, shown: shown.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (Result<Header, String>, Secrets) {
        let mut secrets = Secrets::default();
        let variable = |name: &str| (name == "TOKEN").then(|| "t0k3n-value".to_owned());
        let found = headers(&[text.to_owned()], variable, &mut secrets);
        (found.map(|mut all| all.remove(0)).map_err(|refusal| refusal.message), secrets)
    }

    #[test]
    fn a_variable_is_sent_and_its_name_is_shown() {
        for written in ["Bearer $TOKEN", "Bearer ${TOKEN}"] {
            let (header, secrets) = one(&format!("Authorization: {written}"));
            let header = header.expect("a header");
            assert_eq!(header.value, "Bearer t0k3n-value");
            assert_eq!(header.shown, written);
            let mut text = "refused t0k3n-value".to_owned();
            secrets.hide(&mut text);
            assert_eq!(text, "refused [redacted]");
        }
    }

    #[test]
    fn a_credential_that_is_written_out_is_not_shown() {
        let (header, secrets) = one("X-Api-Key: abc123def");
        assert_eq!(header.expect("a header").shown, HIDDEN);
        let mut text = "key abc123def".to_owned();
        secrets.hide(&mut text);
        assert_eq!(text, "key [redacted]");
        let (header, _) = one("Accept: text/plain");
        assert_eq!(header.expect("a header").shown, "text/plain");
    }

    #[test]
    fn what_is_no_header_is_refused_with_words() {
        let said = |text: &str| one(text).0.expect_err("none");
        assert!(said("Authorization").contains("write `Name: value`"));
        assert!(said("A: $MISSING").contains("variable MISSING is not set"));
        assert!(said("A b: c").contains("no name of a header"));
    }
}
