//! GS1 Digital Links: keys in the path of a URL (GS1 Digital Link 1.3, uncompressed).

use super::{Element, Gs1Error, Identifier, element::add};

/// Reads a link. The key may stand anywhere in the path; what is before it is the owner's. In the query only numbers are
/// identifiers, everything else is the owner's too.
pub fn parse_link(url: &str) -> Result<Vec<Element>, Gs1Error> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    // From the end, for a name of the owner's may look like a key: pairs of identifier and value up to the end.
    let key = (0..segments.len()).find(|at| {
        let pairs = segments.get(*at..).unwrap_or_default();
        let pairs = pairs.strip_suffix(&[""]).unwrap_or(pairs);
        pairs.len().is_multiple_of(2)
            && !pairs.is_empty()
            && pairs.iter().step_by(2).all(|ai| Identifier::find(ai).is_some())
            && pairs.first().and_then(|ai| Identifier::find(ai)).is_some_and(|ai| ai.is_key)
    });
    let pairs = key.and_then(|at| segments.get(at..)).ok_or(Gs1Error::NoKey)?;
    let mut elements = Vec::new();
    for pair in pairs.chunks_exact(2) {
        if let [ai, value] = pair {
            add(&mut elements, element(ai, value)?)?;
        }
    }
    for (ai, value) in query.split(['&', ';']).filter_map(|part| part.split_once('=')) {
        if !ai.is_empty() && ai.bytes().all(|b| b.is_ascii_digit()) {
            add(&mut elements, element(ai, value)?)?;
        }
    }
    Ok(elements)
}

fn element(ai: &str, value: &str) -> Result<Element, Gs1Error> {
    let value = unescape(value).ok_or_else(|| Gs1Error::Link(value.to_owned()))?;
    // A link may leave out the zeros of a shorter GTIN.
    if ai == "01" && matches!(value.len(), 8 | 12 | 13) {
        return Element::new(ai, &format!("{value:0>14}"));
    }
    Element::new(ai, &value)
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}
