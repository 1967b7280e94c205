//! Topic names and filters: what is valid, and which filter matches which name.
//!
//! Pure functions on texts. A name beginning with `$` is matched only by a filter that spells its first level.

/// A filter with its share group, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter<'a> {
    /// Group of `$share/{group}/{filter}`.
    pub group: Option<&'a str>,
    /// The filter proper.
    pub filter: &'a str,
}

/// A topic name: not empty, no wildcards, within the limits.
pub fn is_name(name: &str, bytes_max: usize, levels_max: usize) -> bool {
    !name.is_empty()
        && name.len() <= bytes_max
        && !name.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
        && levels(name) <= levels_max
}

fn levels(text: &str) -> usize {
    text.bytes().filter(|&b| b == b'/').count() + 1
}

fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let ok = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            _ => !level.bytes().any(|b| matches!(b, b'+' | b'#' | 0)),
        };
        if !ok {
            return false;
        }
    }
    !filter.is_empty()
}

/// Splits and checks a filter; `None` = invalid.
pub fn filter(text: &str, bytes_max: usize, levels_max: usize) -> Option<Filter<'_>> {
    if text.len() > bytes_max || levels(text) > levels_max {
        return None;
    }
    let parsed = match text.strip_prefix("$share/") {
        None if text == "$share" => return None,
        None => Filter { group: None, filter: text },
        Some(rest) => {
            let (group, filter) = rest.split_once('/')?;
            if group.is_empty() || group.bytes().any(|b| matches!(b, b'+' | b'#')) {
                return None;
            }
            Filter { group: Some(group), filter }
        }
    };
    is_filter(parsed.filter).then_some(parsed)
}

/// Whether a valid filter matches a valid name.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(part) if level == "+" || level == part => {}
            Some(_) | None => return false,
        }
    }
    names.next().is_none()
}

/// The part of a filter before its first wildcard: every name it matches begins with it.
pub fn literal_prefix(filter: &str) -> &str {
    match filter.find(['+', '#']) {
        None => filter,
        // `a/#` also matches `a`, so the slash before `#` is not part of the prefix.
        Some(at) if filter.get(at..) == Some("#") => {
            filter.get(..at).map_or("", |prefix| prefix.strip_suffix('/').unwrap_or(prefix))
        }
        Some(at) => filter.get(..at).unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_follows_the_standard() {
        for (pattern, name, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("a/+/c", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
            if expected {
                assert!(name.starts_with(literal_prefix(pattern)), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn filters_are_checked() {
        for bad in [
            "",
            "a#",
            "a/#/b",
            "#/a",
            "a+",
            "+a/b",
            "$share",
            "$share/",
            "$share/g",
            "$share//a",
            "$share/+/a",
            "$share/g/",
        ] {
            assert_eq!(filter(bad, 64, 8), None, "{bad}");
        }
        for good in ["a", "/", "a//b", "+", "#", "+/#", "$share/g/#", "$SYS/+"] {
            assert!(filter(good, 64, 8).is_some(), "{good}");
        }
        assert_eq!(filter("$share/g/a/+", 64, 8), Some(Filter { group: Some("g"), filter: "a/+" }));
        assert_eq!(filter("a/a/a", 64, 2), None);
        assert_eq!(filter("aaaa", 3, 2), None);
    }

    #[test]
    fn names_are_checked() {
        assert!(is_name("a/b", 8, 4));
        for bad in ["", "a/+", "#", "a\0", "123456789", "1/2/3/4/5"] {
            assert!(!is_name(bad, 8, 4), "{bad}");
        }
    }
}
