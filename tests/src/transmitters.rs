//! Modbus transmitters of the simulator on a TCP port, beside a test that runs programs and waits for them.

use std::{
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread::JoinHandle,
};

use simulator::modbus::{Framing, Line, serve};
use tokio::sync::oneshot;

/// A line served until this is dropped.
pub struct Transmitters {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Transmitters {
    /// Serves a line on a thread of its own.
    pub fn serve(framing: Framing, line: Line) -> Self {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let served = serve(listener, framing, line).unwrap();
                tell.send(served.address).unwrap();
                let _ = stopped.await;
            });
        });
        Self { address: told.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Transmitters {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
