//! Modbus transmitters of the simulator on a TCP port.

use std::net::{SocketAddr, TcpListener};

use simulator::modbus::{Framing, Line, Served, serve};

use crate::aside::Aside;

/// A line served until this is dropped.
pub struct Transmitters {
    /// Where it listens.
    pub address: SocketAddr,
    // Dropped before its thread ends.
    _served: Served,
    _aside: Aside,
}

impl Transmitters {
    /// Serves a line.
    pub fn serve(framing: Framing, line: Line) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (served, aside) = Aside::start(move || serve(listener, framing, line).unwrap());
        Self { address: served.address, _served: served, _aside: aside }
    }
}
