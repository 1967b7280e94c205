//! A link: one connection to a bus, and what one call on it may bring.
//!
//! A link is good until its first error. tokio-modbus has no timeout, checks the length of an answer only in debug builds, and
//! after a late answer pairs every following request with the answer before it, without an error. So each call is timed and
//! its answer's length checked here, and any failure but an exception of the device poisons the link: it must then be
//! [`Link::mend`]ed, which drops a TCP connection and drains a serial line until it is silent.

use std::{io, time::Duration};

use device_profiles::modbus::{Request as Read, Table};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_modbus::{
    Error, ExceptionCode, ProtocolError, Request, Response, Slave,
    client::{Client as _, Context, rtu, tcp},
    slave::SlaveContext as _,
};
use tokio_serial::{DataBits, SerialPortBuilderExt as _, SerialStream, StopBits};

use super::{
    address::{BusAddress, Parity, Serial},
    wire::Wire,
};

/// How long connecting may take, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 1_000;
/// Pause before the first try to connect again, in milliseconds; doubles with each.
pub const BACKOFF_MS_MIN: u64 = 100;
/// Longest pause before another try to connect, in milliseconds.
pub const BACKOFF_MS_MAX: u64 = 2_500;
/// What a gateway does that has one place for a client when a second one comes: it accepts, and closes.
const CLOSED_UNHEARD: &str = "it accepts and closes without an answer; does it serve one client at a time, and another is connected?";

/// What went wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke.
    #[error("the link is down: {0}")]
    Down(String),
    /// No answer in time.
    #[error("no answer within {0} ms")]
    Timeout(u64),
    /// An answer that is not one to this request: another unit's, another function's, or bytes that are no frame.
    #[error("not an answer to this request: {0}")]
    Foreign(String),
    /// An answer of another length than was asked for.
    #[error("{got} items came, {want} were asked for")]
    Length {
        /// Asked for.
        want: usize,
        /// Came.
        got: usize,
    },
    /// The unit answered that it will not.
    #[error("the device answers exception {0} ({name})", name = exception_name(*.0))]
    Exception(u8),
}

impl CallError {
    /// The unit itself answered, so the link is good.
    pub fn is_answer(&self) -> bool {
        // A gateway that finds nobody answers for a unit that does not.
        matches!(self, Self::Exception(code) if !matches!(code, 0x0A | 0x0B))
    }
    /// The link is still in step.
    pub fn keeps_link(&self) -> bool {
        matches!(self, Self::Exception(_))
    }
    /// Stable name of the kind, for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Down(_) => "down",
            Self::Timeout(_) => "timeout",
            Self::Foreign(_) => "foreign",
            Self::Length { .. } => "length",
            Self::Exception(_) => "exception",
        }
    }
}

fn exception_name(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "device failure",
        5 => "acknowledged, still working",
        6 => "device busy",
        8 => "memory parity error",
        0x0A => "gateway path unavailable",
        0x0B => "gateway: no answer from the device",
        _ => "not in the standard",
    }
}

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Items {
    /// Registers.
    Words(Vec<u16>),
    /// Coils or discrete inputs.
    Bits(Vec<bool>),
}

impl Items {
    /// Keeps the first so many.
    pub fn truncate(&mut self, count: usize) {
        match self {
            Self::Words(words) => words.truncate(count),
            Self::Bits(bits) => bits.truncate(count),
        }
    }
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write<'a> {
    /// Holding registers from an address on.
    Words(u16, &'a [u16]),
    /// One coil.
    Coil(u16, bool),
}

enum Framing {
    Tcp,
    /// RTU, with the line's settings and the silence it needs.
    Rtu(Serial),
}

/// A link.
pub struct Link {
    framing: Framing,
    wire: Wire,
    context: Context,
    /// A TCP connection cannot be drained with certainty; it is dropped.
    droppable: bool,
    /// Something was answered on it.
    heard: bool,
}

/// Opens a serial port.
pub(crate) fn open_port(path: &str, serial: Serial) -> Result<SerialStream, CallError> {
    let parity = match serial.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    tokio_serial::new(path, serial.baud)
        .data_bits(if serial.data == 7 { DataBits::Seven } else { DataBits::Eight })
        .stop_bits(if serial.stop == 2 { StopBits::Two } else { StopBits::One })
        .parity(parity)
        .open_native_async()
        .map_err(|error| CallError::Down(format!("{path}: {error}")))
}

impl Link {
    fn new(framing: Framing, wire: Wire, context: Context, droppable: bool) -> Self {
        Self { framing, wire, context, droppable, heard: false }
    }

    /// Connects. A fresh RTU link is drained first: a gateway may still hold an answer that somebody else asked for.
    pub async fn open(address: &BusAddress) -> Result<Self, CallError> {
        let down = |error: io::Error| CallError::Down(error.to_string());
        match address {
            BusAddress::Tcp(place) => {
                let wire = Wire::new(Box::new(connect(place).await?), false);
                let context = tcp::attach(wire.clone());
                Ok(Self::new(Framing::Tcp, wire, context, true))
            }
            BusAddress::RtuOverTcp(place, serial) => {
                let mut wire = Wire::new(Box::new(connect(place).await?), serial.echo);
                wire.drain(serial.silence()).await.map_err(|error| {
                    if error.kind() == io::ErrorKind::InvalidData {
                        down(error)
                    } else {
                        CallError::Down(CLOSED_UNHEARD.into())
                    }
                })?;
                let context = rtu::attach(wire.clone());
                Ok(Self::new(Framing::Rtu(*serial), wire, context, true))
            }
            BusAddress::Rtu(path, serial) => {
                let port = open_port(path, *serial)?;
                let mut wire = Wire::new(Box::new(port), serial.echo);
                wire.drain(serial.silence()).await.map_err(down)?;
                let context = rtu::attach(wire.clone());
                Ok(Self::new(Framing::Rtu(*serial), wire, context, false))
            }
            BusAddress::Line(..) => {
                Err(CallError::Down("the line of a reader or scanner is no Modbus bus".into()))
            }
        }
    }

    /// Makes a poisoned link usable again. A TCP connection is dropped by the caller: false. A serial line is drained until it
    /// has been silent for as long as a late answer may take.
    pub async fn mend(mut self, late: Duration) -> Result<Option<Self>, CallError> {
        if self.droppable {
            return Ok(None);
        }
        let Framing::Rtu(serial) = self.framing else { return Ok(None) };
        let silence = late.max(serial.silence());
        self.wire.drain(silence).await.map_err(|error| CallError::Down(error.to_string()))?;
        self.context = rtu::attach(self.wire.clone());
        Ok(Some(self))
    }

    /// Reads a stretch.
    pub async fn read(
        &mut self,
        unit: u8,
        read: Read,
        answer: Duration,
    ) -> Result<Items, CallError> {
        let (start, count) = (read.start, read.count);
        let request = match read.table {
            Table::Coil => Request::ReadCoils(start, count),
            Table::Discrete => Request::ReadDiscreteInputs(start, count),
            Table::Holding => Request::ReadHoldingRegisters(start, count),
            Table::Input => Request::ReadInputRegisters(start, count),
        };
        let want = usize::from(count);
        let bytes = if read.table.is_bits() { want.div_ceil(8) } else { want * 2 };
        let response = self.call(unit, request, answer, 8, 5 + bytes).await?;
        if let Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) =
            response
        {
            return match words.len() {
                got if got == want => Ok(Items::Words(words)),
                got => Err(CallError::Length { want, got }),
            };
        }
        let (Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits)) = response
        else {
            // The client compares function codes; this is for one that does not.
            return Err(CallError::Foreign(format!("function {}", response.function_code())));
        };
        // Bits come in whole bytes.
        if bits.len() < want || bits.len() > want.div_ceil(8) * 8 {
            return Err(CallError::Length { want, got: bits.len() });
        }
        bits.truncate(want);
        Ok(Items::Bits(bits))
    }

    /// Writes; the device's answer must name the same place.
    pub async fn write(
        &mut self,
        unit: u8,
        write: Write<'_>,
        answer: Duration,
    ) -> Result<(), CallError> {
        let (request, sent, wanted) = match write {
            Write::Words(at, [word]) => (
                Request::WriteSingleRegister(at, *word),
                8,
                Response::WriteSingleRegister(at, *word),
            ),
            Write::Words(at, words) => {
                let count = u16::try_from(words.len()).unwrap_or(u16::MAX);
                let request = Request::WriteMultipleRegisters(at, words.into());
                (request, 9 + 2 * words.len(), Response::WriteMultipleRegisters(at, count))
            }
            Write::Coil(at, on) => {
                (Request::WriteSingleCoil(at, on), 8, Response::WriteSingleCoil(at, on))
            }
        };
        let response = self.call(unit, request, answer, sent, 8).await?;
        if response == wanted {
            Ok(())
        } else {
            Err(CallError::Foreign("it names another place".into()))
        }
    }

    /// One request and its answer. `sent` and `expected` are the frames' characters on a serial line.
    async fn call(
        &mut self,
        unit: u8,
        request: Request<'_>,
        answer: Duration,
        sent: usize,
        expected: usize,
    ) -> Result<Response, CallError> {
        let mut wait = answer;
        if let Framing::Rtu(serial) = self.framing {
            let silent_from = self.wire.last() + serial.silence();
            if silent_from > Instant::now() {
                sleep_until(silent_from).await;
            }
            wait += serial.characters(sent + expected) + serial.silence();
        }
        self.context.set_slave(Slave(unit));
        let result = match timeout(wait, self.context.call(request)).await {
            Err(_) => Err(CallError::Timeout(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))),
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(exception))) => Err(CallError::Exception(ExceptionCode::into(exception))),
            Ok(Err(Error::Protocol(ProtocolError::HeaderMismatch { message, .. }))) => {
                Err(CallError::Foreign(message))
            }
            Ok(Err(Error::Protocol(ProtocolError::FunctionCodeMismatch { .. }))) => {
                Err(CallError::Foreign("another function".into()))
            }
            Ok(Err(Error::Transport(error))) => Err(transport(&error)),
        };
        match &result {
            Err(CallError::Down(_)) if self.droppable && !self.heard => {
                return Err(CallError::Down(CLOSED_UNHEARD.into()));
            }
            Err(CallError::Down(_) | CallError::Timeout(_)) => {}
            Ok(_) | Err(_) => self.heard = true,
        }
        result
    }
}

fn transport(error: &io::Error) -> CallError {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, InvalidInput, UnexpectedEof,
    };
    let kind = error.kind();
    if matches!(kind, InvalidData | InvalidInput) {
        return CallError::Foreign(error.to_string());
    }
    if matches!(kind, ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof) {
        return CallError::Down(error.to_string());
    }
    // At the end of a stream the client reports whatever the last error of the thread was.
    CallError::Down("the connection was closed".into())
}

async fn connect(place: &str) -> Result<TcpStream, CallError> {
    let wait = Duration::from_millis(CONNECT_MS_MAX);
    let down = |error: io::Error| CallError::Down(format!("{place}: {error}"));
    match timeout(wait, TcpStream::connect(place)).await {
        Err(_) => {
            Err(CallError::Down(format!("{place}: no connection within {CONNECT_MS_MAX} ms")))
        }
        Ok(Err(error)) => Err(down(error)),
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(down)?;
            Ok(stream)
        }
    }
}
