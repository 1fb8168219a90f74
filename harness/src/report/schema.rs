//! JSON against a JSON Schema of draft 7 or 2020-12, for tests: as much of it as the schemas use that we hold our
//! reports against. A keyword that is not known here is an error, so that nothing passes unread.

use serde_json::Value;

/// What is said of the schema and does not decide. Formats are no more than remarks.
const REMARKS: &[&str] =
    &["$schema", "$id", "$defs", "title", "description", "default", "definitions", "format"];

/// All that is wrong, each with its place.
pub(crate) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(schema, schema, value, "$", &mut errors);
    errors
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else {
        if schema != &Value::Bool(true) {
            errors.push(format!("{at}: nothing may stand here"));
        }
        return;
    };
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        match reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
            Some(schema) => check(root, schema, value, at, errors),
            None => errors.push(format!("{at}: the schema has no {reference}")),
        }
        return;
    }
    for (keyword, wanted) in schema {
        let fits = match keyword.as_str() {
            remark if REMARKS.contains(&remark) => true,
            "type" => is_of_type(wanted, value),
            "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
            "const" => wanted == value,
            "minimum" => value.as_f64() >= wanted.as_f64() || !value.is_number(),
            "maximum" => value.as_f64() <= wanted.as_f64() || !value.is_number(),
            "minItems" => value.as_array().is_none_or(|all| all.len() as u64 >= number(wanted)),
            "uniqueItems" => {
                wanted == &Value::Bool(false)
                    || value.as_array().is_none_or(|all| {
                        all.iter().enumerate().all(|(at, one)| !all[..at].contains(one))
                    })
            }
            "required" => value.as_object().is_none_or(|object| {
                let mut names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.all(|name| object.contains_key(name))
            }),
            "anyOf" | "oneOf" => {
                let fitting = wanted.as_array().into_iter().flatten().filter(|one| {
                    let mut own = Vec::new();
                    check(root, one, value, at, &mut own);
                    own.is_empty()
                });
                let fitting = fitting.count();
                fitting == 1 || (fitting > 1 && keyword == "anyOf")
            }
            "items" => {
                for (place, one) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, one, &format!("{at}[{place}]"), errors);
                }
                true
            }
            "properties" => {
                for (name, one) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = wanted.get(name) {
                        check(root, schema, one, &format!("{at}.{name}"), errors);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties");
                for (name, one) in value.as_object().into_iter().flatten() {
                    if known.is_none_or(|known| known.get(name).is_none()) {
                        check(root, wanted, one, &format!("{at}.{name}"), errors);
                    }
                }
                true
            }
            _ => false,
        };
        if !fits {
            errors.push(format!("{at}: {value} against {keyword}: {wanted}"));
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(u64::MAX)
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        _ => false,
    };
    wanted.as_array().map_or_else(|| is(wanted), |all| all.iter().any(is))
}
