//! Which field of a JSON text a parser's error is about.
//!
//! serde_json tells line and column. This walks the text up to there and says which members and items it was inside of, such
//! as `devices[3].channels[0].noise_mg`. The text may be broken beyond that place; the walk never looks further.
//!
//! An error that a type raises about a value is placed where its object ends, if the value is the last in it. So a closing
//! bracket at the place is still counted as inside, except for a missing field, which is about the object as a whole.

/// One level of nesting.
enum Level {
    Object { key: String, value: bool },
    Array { index: usize },
}

/// The path of the field that an error about a JSON text means; empty at the top.
pub fn json_path(text: &[u8], error: &serde_json::Error) -> String {
    let read = text.get(..end_of(text, error.line(), error.column())).unwrap_or(text);
    let said = error.to_string();
    let missing = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match missing {
        Some(field) => {
            let path = path_at(read);
            if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
        }
        None => path_at(read.strip_suffix(b"}").unwrap_or(read)),
    }
}

/// The path at the end of the beginning of a text.
fn path_at(read: &[u8]) -> String {
    let mut levels: Vec<Level> = Vec::new();
    let mut bytes = read.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' => levels.push(Level::Object { key: String::new(), value: false }),
            b'[' => levels.push(Level::Array { index: 0 }),
            b'}' | b']' => {
                levels.pop();
            }
            b':' => {
                if let Some(Level::Object { value, .. }) = levels.last_mut() {
                    *value = true;
                }
            }
            b',' => match levels.last_mut() {
                Some(Level::Object { key, value }) => {
                    key.clear();
                    *value = false;
                }
                Some(Level::Array { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let text = string(&mut bytes);
                if let Some(Level::Object { key, value: false }) = levels.last_mut() {
                    *key = text;
                }
            }
            _ => {}
        }
    }
    written(&levels)
}

/// The offset of a line and column.
fn end_of(text: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        let rest = text.get(start..).unwrap_or_default();
        start += rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
    }
    (start + column).min(text.len())
}

/// A string's characters up to its closing quote. Escapes are left as they are: keys with escapes are not ours.
fn string(bytes: &mut impl Iterator<Item = u8>) -> String {
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => {
                out.push(byte);
                out.extend(bytes.next());
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn written(levels: &[Level]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object { key, .. } if key.is_empty() => {}
            Level::Object { key, .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Level::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of<T: serde::de::DeserializeOwned>(text: &str) -> String {
        let error = serde_json::from_str::<T>(text).err().unwrap();
        json_path(text.as_bytes(), &error)
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        n: i64,
        id: device_profiles::Sku,
    }
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        list: Vec<Inner>,
    }

    #[test]
    fn errors_are_placed() {
        let good = r#"{"n":1,"id":"a"}"#;
        assert_eq!(path_of::<Outer>(&format!(r#"{{"list":[{good},{{"n":"x"}}]}}"#)), "list[1].n");
        assert_eq!(
            path_of::<Outer>(&format!("{{\"list\":[\n{good},\n{{\"id\":\"a b\"}}]}}")),
            "list[1].id"
        );
        assert_eq!(path_of::<Outer>(r#"{"list":[{"n":1,"id":"a","zz":2}]}"#), "list[0].zz");
        assert_eq!(path_of::<Outer>(r#"{"list":[{"n":1}]}"#), "list[0].id");
        assert_eq!(path_of::<Outer>("{}"), "list");
        assert_eq!(path_of::<Outer>(r#"{"oops":1}"#), "oops");
        assert_eq!(path_of::<Outer>("{"), "");
    }
}
