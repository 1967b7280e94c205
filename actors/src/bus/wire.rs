//! The wire: a byte stream under tokio-modbus that outlives it.
//!
//! tokio-modbus owns its transport, and after an error only a new context is safe; but a serial port must stay open to be
//! drained. So a context gets a handle, and the port stays here. The wire also knows when the last byte went by (for the
//! silence between frames) and takes back the echo of an adapter that hears itself.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

/// Most bytes drained after an error; a line that never falls silent is not a Modbus line.
pub const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// A transport that can throw away what it has received.
pub trait Port: AsyncRead + AsyncWrite + Send + Unpin {
    /// Throws away what waits in the operating system's buffer, where that can be done.
    fn clear_input(&self) {}
}

impl Port for TcpStream {}
impl Port for tokio::io::DuplexStream {}
impl Port for SerialStream {
    fn clear_input(&self) {
        // Draining reads everything anyway; this only makes it shorter.
        let _ = self.clear(ClearBuffer::Input);
    }
}

struct State {
    port: Box<dyn Port>,
    /// The adapter hears what it sends.
    echo: bool,
    /// Sent and not yet heard back.
    unheard: Vec<u8>,
    last: Instant,
}

/// A handle to the port.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<State>>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Takes a port.
    pub fn new(port: Box<dyn Port>, echo: bool) -> Self {
        Self(Arc::new(Mutex::new(State { port, echo, unheard: Vec::new(), last: Instant::now() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last byte went by.
    pub fn last(&self) -> Instant {
        self.lock().last
    }

    /// Reads and throws away until nothing came for `silence`. `Ok(bytes)` that were there; an error when the port is gone or
    /// never falls silent.
    pub async fn drain(&mut self, silence: Duration) -> io::Result<usize> {
        {
            let mut state = self.lock();
            state.unheard.clear();
            state.port.clear_input();
        }
        let mut drained = 0;
        let mut buffer = [0; 256];
        loop {
            match timeout(silence, self.read(&mut buffer)).await {
                Err(_) => return Ok(drained),
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(n)) => drained += n,
                Ok(Err(error)) => return Err(error),
            }
            if drained > DRAIN_BYTES_MAX {
                let what =
                    "the line never falls silent; is another master on it, or is the speed wrong?";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        loop {
            let before = buf.filled().len();
            ready!(Pin::new(&mut state.port).poll_read(task, buf))?;
            let came = buf.filled().len() - before;
            if came == 0 {
                return Poll::Ready(Ok(()));
            }
            state.last = Instant::now();
            let own = came.min(state.unheard.len());
            if own == 0 {
                return Poll::Ready(Ok(()));
            }
            let heard = &buf.filled()[before..before + own];
            if heard != &state.unheard[..own] {
                let what = "what the adapter heard back is not what was sent; is another master on the line?";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
            }
            state.unheard.drain(..own);
            let filled = buf.filled_mut();
            filled.copy_within(before + own.., before);
            let left = filled.len() - own;
            buf.set_filled(left);
            if left > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let sent = ready!(Pin::new(&mut state.port).poll_write(task, bytes))?;
        state.last = Instant::now();
        if state.echo {
            state.unheard.extend_from_slice(&bytes[..sent]);
        }
        Poll::Ready(Ok(sent))
    }
    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().port).poll_flush(task)
    }
    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().port).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn an_echo_is_taken_back_and_a_wrong_one_is_told() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut wire = Wire::new(Box::new(ours), true);
        wire.write_all(&[1, 3, 0, 7]).await.unwrap();
        theirs.write_all(&[1, 3]).await.unwrap();
        theirs.write_all(&[0, 7, 0xAA, 0xBB]).await.unwrap();
        let mut got = [0; 2];
        wire.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [0xAA, 0xBB]);
        wire.write_all(&[1, 3]).await.unwrap();
        theirs.write_all(&[9, 9]).await.unwrap();
        assert_eq!(wire.read(&mut got).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_silence() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut wire = Wire::new(Box::new(ours), false);
        theirs.write_all(&[1, 2, 3]).await.unwrap();
        let drained = wire.drain(Duration::from_millis(50)).await.unwrap();
        assert_eq!(drained, 3);
        drop(theirs);
        assert!(wire.drain(Duration::from_millis(50)).await.is_err());
    }
}
