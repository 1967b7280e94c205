//! Packets a device sends, and packets a server sends back, as bytes (OASIS MQTT 3.1.1 and 5.0).
//!
//! Encoders append to a buffer. [`decode`] reads one packet from the front of a buffer, or says that more bytes are
//! needed. Of MQTT 5's properties a device uses only what it must: the server's Receive Maximum and Maximum Packet Size.

/// Largest packet accepted from a server, bytes.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;
/// In-flight limit of an MQTT 5 server that names none (and of 3.1.1, which has none).
pub const RECEIVE_MAXIMUM_DEFAULT: u16 = u16::MAX;

/// Protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V3,
    /// 5.0.
    V5,
}

/// CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Connect<'a> {
    /// Protocol version.
    pub version: Version,
    /// Client id.
    pub client_id: &'a str,
    /// Start without an earlier session.
    pub clean: bool,
    /// Longest silence, s; 0 = unlimited.
    pub keep_alive_s: u16,
    /// MQTT 5: how long the server keeps the session, s.
    pub session_expiry_s: u32,
    /// User name and password.
    pub login: Option<(&'a str, &'a str)>,
}

/// PUBLISH.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Packet id; `None` is QoS 0.
    pub id: Option<u16>,
    /// Sent before.
    pub dup: bool,
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// CONNACK.
    ConnAck {
        /// The server knows the session.
        session_present: bool,
        /// Return code (3.1.1) or reason code (5); 0 = accepted.
        code: u8,
        /// Unacknowledged QoS 1 messages the server takes.
        receive_maximum: u16,
    },
    /// PUBLISH; `id` is there for QoS 1.
    Publish {
        /// Topic name.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
        /// Packet id.
        id: Option<u16>,
    },
    /// PUBACK.
    PubAck {
        /// Packet id.
        id: u16,
        /// Reason code; below 0x80 = taken.
        code: u8,
    },
    /// SUBACK.
    SubAck {
        /// Packet id.
        id: u16,
        /// First return code; below 0x80 = granted.
        code: u8,
    },
    /// PINGRESP.
    PingResp,
    /// DISCONNECT (5 only).
    Disconnect {
        /// Reason code.
        code: u8,
    },
}

/// Why bytes are not a packet a server may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The remaining length has more than four bytes.
    #[error("malformed length")]
    Length,
    /// Larger than [`PACKET_BYTES_MAX`].
    #[error("packet larger than {PACKET_BYTES_MAX} bytes")]
    TooLarge,
    /// A type or flags a server does not send to this client.
    #[error("unexpected packet, first byte {0:#04x}")]
    Unexpected(u8),
    /// A field runs over the packet's end, or text is not UTF-8.
    #[error("malformed packet, first byte {0:#04x}")]
    Malformed(u8),
}

fn u16_be(out: &mut Vec<u8>, n: u16) {
    out.extend_from_slice(&n.to_be_bytes());
}

fn text(out: &mut Vec<u8>, s: &str) {
    u16_be(out, s.len() as u16);
    out.extend_from_slice(s.as_bytes());
}

fn length(out: &mut Vec<u8>, mut n: usize) {
    loop {
        let byte = (n % 128) as u8;
        n /= 128;
        if n == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Appends a CONNECT.
pub fn connect(out: &mut Vec<u8>, c: &Connect<'_>) {
    let mut body = Vec::with_capacity(128);
    text(&mut body, "MQTT");
    body.push(match c.version {
        Version::V3 => 4,
        Version::V5 => 5,
    });
    let login = if c.login.is_some() { 0xc0 } else { 0 };
    body.push(login | u8::from(c.clean) << 1);
    u16_be(&mut body, c.keep_alive_s);
    if c.version == Version::V5 {
        // One property: Session Expiry Interval.
        body.extend_from_slice(&[5, 0x11]);
        body.extend_from_slice(&c.session_expiry_s.to_be_bytes());
    }
    text(&mut body, c.client_id);
    if let Some((user, password)) = c.login {
        text(&mut body, user);
        text(&mut body, password);
    }
    out.push(0x10);
    length(out, body.len());
    out.extend_from_slice(&body);
}

/// Appends a PUBLISH.
pub fn publish(out: &mut Vec<u8>, version: Version, p: &Publish<'_>) {
    let qos1 = p.id.is_some();
    out.push(0x30 | u8::from(p.dup) << 3 | u8::from(qos1) << 1);
    let properties = usize::from(version == Version::V5);
    length(out, 2 + p.topic.len() + 2 * usize::from(qos1) + properties + p.payload.len());
    text(out, p.topic);
    if let Some(id) = p.id {
        u16_be(out, id);
    }
    if version == Version::V5 {
        out.push(0);
    }
    out.extend_from_slice(p.payload);
}

/// Appends a PUBACK.
pub fn puback(out: &mut Vec<u8>, id: u16) {
    out.extend_from_slice(&[0x40, 2]);
    u16_be(out, id);
}

/// Appends a SUBSCRIBE for one filter at QoS 1.
pub fn subscribe(out: &mut Vec<u8>, version: Version, id: u16, filter: &str) {
    let properties = usize::from(version == Version::V5);
    out.push(0x82);
    length(out, 2 + properties + 2 + filter.len() + 1);
    u16_be(out, id);
    if version == Version::V5 {
        out.push(0);
    }
    text(out, filter);
    out.push(1);
}

/// Appends a PINGREQ.
pub fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xc0, 0]);
}

/// Appends a DISCONNECT: normal, nothing pending.
pub fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 0]);
}

/// The fields of one packet.
struct Fields<'a> {
    first: u8,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], PacketError> {
        let (taken, rest) =
            self.rest.split_at_checked(n).ok_or(PacketError::Malformed(self.first))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, PacketError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, PacketError> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    fn text(&mut self) -> Result<String, PacketError> {
        let n = self.u16()?.into();
        let bytes = self.take(n)?.to_vec();
        String::from_utf8(bytes).map_err(|_| PacketError::Malformed(self.first))
    }

    /// The bytes of a property list; absent in MQTT 3.1.1 and in shortened packets.
    fn properties(&mut self, version: Version) -> Result<Fields<'a>, PacketError> {
        let mut list = Fields { first: self.first, rest: &[] };
        if version == Version::V5 && !self.rest.is_empty() {
            let (len, used) = read_length(self.rest)?.ok_or(PacketError::Malformed(self.first))?;
            self.take(used)?;
            list.rest = self.take(len)?;
        }
        Ok(list)
    }
}

/// A variable length and its size; `None` when it is not complete.
fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, PacketError> {
    let mut n = 0;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        n |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((n, i + 1)));
        }
    }
    if bytes.len() >= 4 { Err(PacketError::Length) } else { Ok(None) }
}

/// Receive Maximum among CONNACK's properties. Others are skipped by their sizes (MQTT 5, table 2-4).
fn receive_maximum(mut p: Fields<'_>) -> Result<u16, PacketError> {
    let mut found = RECEIVE_MAXIMUM_DEFAULT;
    while !p.rest.is_empty() {
        match p.u8()? {
            0x21 => found = p.u16()?.max(1),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => drop(p.take(1)?),
            0x13 | 0x22 => drop(p.take(2)?),
            0x11 | 0x27 => drop(p.take(4)?),
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                let n = p.u16()?.into();
                p.take(n)?;
            }
            0x26 => {
                for _ in 0..2 {
                    let n = p.u16()?.into();
                    p.take(n)?;
                }
            }
            _ => return Err(PacketError::Malformed(p.first)),
        }
    }
    Ok(found)
}

/// Reads the packet at the front of `bytes`: the packet and its size, or `None` when it is not complete.
///
/// # Errors
/// [`PacketError`]; the connection is then of no more use.
pub fn decode(bytes: &[u8], version: Version) -> Result<Option<(Incoming, usize)>, PacketError> {
    let Some((&first, after)) = bytes.split_first() else { return Ok(None) };
    let Some((len, used)) = read_length(after)? else { return Ok(None) };
    if len > PACKET_BYTES_MAX {
        return Err(PacketError::TooLarge);
    }
    let Some(body) = after.get(used..used + len) else { return Ok(None) };
    let mut f = Fields { first, rest: body };
    let packet = match first {
        0x20 => {
            let (flags, code) = (f.u8()?, f.u8()?);
            let receive_maximum = receive_maximum(f.properties(version)?)?;
            Incoming::ConnAck { session_present: flags & 1 == 1, code, receive_maximum }
        }
        0x40 => {
            let id = f.u16()?;
            let code = if f.rest.is_empty() { 0 } else { f.u8()? };
            f.properties(version)?;
            Incoming::PubAck { id, code }
        }
        0x30..=0x3f => {
            let qos = first >> 1 & 3;
            let topic = f.text()?;
            let id = match qos {
                0 => None,
                1 => Some(f.u16()?),
                _ => return Err(PacketError::Unexpected(first)),
            };
            f.properties(version)?;
            Incoming::Publish { topic, payload: f.rest.to_vec(), id }
        }
        0x90 => {
            let id = f.u16()?;
            f.properties(version)?;
            Incoming::SubAck { id, code: f.u8()? }
        }
        0xd0 => Incoming::PingResp,
        0xe0 if version == Version::V5 => {
            Incoming::Disconnect { code: if f.rest.is_empty() { 0 } else { f.u8()? } }
        }
        _ => return Err(PacketError::Unexpected(first)),
    };
    Ok(Some((packet, 1 + used + len)))
}

/// What a CONNACK, PUBACK or DISCONNECT code means.
#[must_use]
pub fn reason(version: Version, code: u8) -> &'static str {
    match (version, code) {
        (_, 0) => "success",
        (Version::V3, 1) | (_, 0x84) => "unsupported protocol version",
        (Version::V3, 2) | (_, 0x85) => "client id not allowed",
        (Version::V3, 3) | (_, 0x88) => "server unavailable",
        (Version::V3, 4) | (_, 0x86) => "bad user name or password",
        (Version::V3, 5) | (_, 0x87) => "not authorized",
        (_, 0x10) => "no matching subscribers",
        (_, 0x80) => "unspecified error",
        (_, 0x81) => "malformed packet",
        (_, 0x82) => "protocol error",
        (_, 0x89) => "server busy",
        (_, 0x8b) => "server shutting down",
        (_, 0x8d) => "keep alive timeout",
        (_, 0x8e) => "session taken over",
        (_, 0x90) => "topic name invalid",
        (_, 0x93) => "receive maximum exceeded",
        (_, 0x95) => "packet too large",
        (_, 0x96) => "message rate too high",
        (_, 0x97) => "quota exceeded",
        (_, 0x99) => "payload format invalid",
        (_, 0x9f) => "connection rate exceeded",
        (_, _) => "another reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    // The expected bytes are written from the OASIS texts, not from this encoder.
    #[test]
    fn golden_connect() {
        let v3 = Connect {
            version: Version::V3,
            client_id: "d1",
            clean: true,
            keep_alive_s: 60,
            session_expiry_s: 0,
            login: Some(("u", "pw")),
        };
        assert_eq!(
            bytes(|o| connect(o, &v3)),
            b"\x10\x15\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02d1\x00\x01u\x00\x02pw"
        );
        let v5 = Connect {
            version: Version::V5,
            clean: false,
            session_expiry_s: 3_600,
            login: None,
            ..v3
        };
        assert_eq!(
            bytes(|o| connect(o, &v5)),
            b"\x10\x14\x00\x04MQTT\x05\x00\x00\x3c\x05\x11\x00\x00\x0e\x10\x00\x02d1"
        );
    }

    #[test]
    fn golden_publish_subscribe_and_short_packets() {
        let q1 = Publish { topic: "a/b", payload: b"hi", id: Some(10), dup: false };
        assert_eq!(bytes(|o| publish(o, Version::V3, &q1)), b"\x32\x09\x00\x03a/b\x00\x0ahi");
        assert_eq!(bytes(|o| publish(o, Version::V5, &q1)), b"\x32\x0a\x00\x03a/b\x00\x0a\x00hi");
        let again = Publish { dup: true, ..q1 };
        assert_eq!(bytes(|o| publish(o, Version::V3, &again))[0], 0x3a);
        let q0 = Publish { id: None, ..q1 };
        assert_eq!(bytes(|o| publish(o, Version::V3, &q0)), b"\x30\x07\x00\x03a/bhi");
        assert_eq!(
            bytes(|o| subscribe(o, Version::V3, 1, "c/#")),
            b"\x82\x08\x00\x01\x00\x03c/#\x01"
        );
        assert_eq!(
            bytes(|o| subscribe(o, Version::V5, 1, "c/#")),
            b"\x82\x09\x00\x01\x00\x00\x03c/#\x01"
        );
        assert_eq!(bytes(|o| puback(o, 0x1234)), [0x40, 2, 0x12, 0x34]);
        assert_eq!(bytes(pingreq), [0xc0, 0]);
        assert_eq!(bytes(disconnect), [0xe0, 0]);
    }

    #[test]
    fn lengths_as_in_table_2_4_of_the_specification() {
        for (n, wire) in [
            (0, vec![0x00]),
            (127, vec![0x7f]),
            (128, vec![0x80, 0x01]),
            (16_383, vec![0xff, 0x7f]),
            (16_384, vec![0x80, 0x80, 0x01]),
            (2_097_152, vec![0x80, 0x80, 0x80, 0x01]),
            (268_435_455, vec![0xff, 0xff, 0xff, 0x7f]),
        ] {
            assert_eq!(bytes(|o| length(o, n)), wire);
            assert_eq!(read_length(&wire), Ok(Some((n, wire.len()))));
        }
        assert_eq!(read_length(&[0x80; 4]), Err(PacketError::Length));
    }

    #[test]
    fn golden_answers() {
        let v5_connack = b"\x20\x0a\x01\x00\x07\x21\x00\x14\x24\x01\x2a\x00";
        for (wire, version, packet) in [
            (
                b"\x20\x02\x01\x00".as_slice(),
                Version::V3,
                Incoming::ConnAck { session_present: true, code: 0, receive_maximum: 65_535 },
            ),
            (
                v5_connack,
                Version::V5,
                Incoming::ConnAck { session_present: true, code: 0, receive_maximum: 20 },
            ),
            (b"\x40\x02\x00\x0a", Version::V3, Incoming::PubAck { id: 10, code: 0 }),
            (b"\x40\x03\x00\x0a\x97", Version::V5, Incoming::PubAck { id: 10, code: 0x97 }),
            (b"\x40\x04\x00\x0a\x10\x00", Version::V5, Incoming::PubAck { id: 10, code: 0x10 }),
            (b"\x90\x03\x00\x01\x01", Version::V3, Incoming::SubAck { id: 1, code: 1 }),
            (b"\x90\x04\x00\x01\x00\x87", Version::V5, Incoming::SubAck { id: 1, code: 0x87 }),
            (b"\xd0\x00", Version::V3, Incoming::PingResp),
            (b"\xe0\x01\x8b", Version::V5, Incoming::Disconnect { code: 0x8b }),
            (
                b"\x32\x09\x00\x03a/b\x00\x0ahi",
                Version::V3,
                Incoming::Publish { topic: "a/b".into(), payload: b"hi".into(), id: Some(10) },
            ),
        ] {
            assert_eq!(decode(wire, version), Ok(Some((packet, wire.len()))));
            for cut in 0..wire.len() {
                assert_eq!(decode(&wire[..cut], version), Ok(None));
            }
        }
    }

    #[test]
    fn any_bytes_are_an_answer_or_an_error() {
        let mut noise = crate::random::Stream::new(1, "bytes", 0);
        for _ in 0..20_000 {
            let kind = noise.below(16) as u8;
            let n = noise.below(24);
            let mut wire = vec![kind << 4 | noise.below(2) as u8, n as u8];
            wire.extend((0..n).map(|_| noise.bits() as u8));
            for version in [Version::V3, Version::V5] {
                if let Ok(Some((_, used))) = decode(&wire, version) {
                    assert_eq!(used, wire.len());
                }
            }
        }
        assert_eq!(decode(&[0x62, 2, 0, 1], Version::V3), Err(PacketError::Unexpected(0x62)));
        assert_eq!(decode(&[0x40, 1, 0], Version::V3), Err(PacketError::Malformed(0x40)));
        assert_eq!(
            decode(&[0x30, 0xff, 0xff, 0xff, 0x7f], Version::V3),
            Err(PacketError::TooLarge)
        );
    }
}
