//! A client of the live feed: RFC 6455 by hand, as much of it as a listener needs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;
use stockfold_tests::WAIT_MAX;

/// The example of RFC 6455, section 1.3, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An open feed.
pub struct Live {
    reader: BufReader<TcpStream>,
}

impl Live {
    /// Upgrades.
    pub fn open(http: SocketAddr, path: &str, token: &str) -> Self {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {http}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "closed after {head}");
        }
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains(ACCEPT), "{head}");
        Self { reader }
    }

    /// The next message; pings are answered on the way.
    pub fn message(&mut self) -> Value {
        loop {
            let [first, second] = self.take();
            assert_eq!(first & 0x80, 0x80, "the hub does not split messages");
            assert_eq!(second & 0x80, 0, "a server does not mask");
            let bytes = match second {
                126 => u64::from(u16::from_be_bytes(self.take())),
                127 => u64::from_be_bytes(self.take()),
                few => u64::from(few),
            };
            let mut payload = vec![0; usize::try_from(bytes).unwrap()];
            self.reader.read_exact(&mut payload).unwrap();
            match first & 0x0f {
                1 => return serde_json::from_slice(&payload).unwrap(),
                9 => {
                    // A client masks; a mask of zeros changes nothing.
                    let mut pong = vec![0x8a, 0x80 | second, 0, 0, 0, 0];
                    pong.extend_from_slice(&payload);
                    self.reader.get_mut().write_all(&pong).unwrap();
                }
                other => panic!("opcode {other}: {}", String::from_utf8_lossy(&payload)),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }
}
