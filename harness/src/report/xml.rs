//! XML as the JUnit reporter needs it: elements, attributes, text.

/// Appends `<name key="value"…>`, or `<name key="value"…/>` where nothing follows.
pub(super) fn open(out: &mut String, name: &str, attributes: &[(&str, &str)], is_empty: bool) {
    out.push('<');
    out.push_str(name);
    for (key, value) in attributes {
        out.push_str(&format!(" {key}=\"{}\"", escaped(value, true)));
    }
    out.push_str(if is_empty { "/>" } else { ">" });
}

/// Appends an element with text in it.
pub(super) fn element(out: &mut String, name: &str, attributes: &[(&str, &str)], text: &str) {
    open(out, name, attributes, text.is_empty());
    if !text.is_empty() {
        out.push_str(&escaped(text, false));
        out.push_str(&format!("</{name}>"));
    }
}

/// Text without what means something else in XML, and without characters that XML 1.0 has no way to
/// write; the ends of lines stay, in attributes as references.
fn escaped(text: &str, in_attribute: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' if in_attribute => out.push_str(&format!("&#{};", u32::from(c))),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_xml_is_escaped_and_what_has_no_form_is_left_out() {
        let text = "a<b> & \"c\"\u{0}\u{1b}[31m\u{ffff}\n\td ]]> é\u{85}";
        assert_eq!(escaped(text, false), "a&lt;b&gt; &amp; &quot;c&quot;[31m\n\td ]]&gt; é");
        assert!(escaped(text, true).contains("&#10;&#9;d"));
    }
}
