//! Polls one connection of rumqttc, in a task of its own.
//!
//! `EventLoop::poll` is not cancel safe, so it is never in a `select!` and only dropped together with its connection. The
//! poller decides nothing: it hands over what the link needs to know, and waits when the link does not take it. It never
//! acknowledges, so it cannot wait for a channel that only it empties.

use rumqttc::{
    ConnectReturnCode, ConnectionError, Event, EventLoop, Outgoing, Packet, Publish, StateError,
    SubscribeReasonCode,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Messages between poller and link.
const ARRIVALS_MAX: usize = 256;

/// What came.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The broker granted the connection.
    Connected {
        /// It still knew the session.
        session_present: bool,
    },
    /// A packet that wants an answer has left under this id.
    Left(u16),
    /// The broker answered a packet.
    Answered {
        /// The packet.
        packet_id: u16,
        /// Of a subscription's filters, those it refuses.
        refused: Vec<usize>,
    },
    /// A message.
    Message(Publish),
    /// The connection is over.
    Lost(String),
}

/// A connection being polled. Dropping it ends the connection.
pub(super) struct Poller {
    arrivals: mpsc::Receiver<Arrival>,
    task: JoinHandle<()>,
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Poller {
    /// Polls on the current arbiter.
    pub(super) fn start(events: EventLoop) -> Self {
        let (tell, arrivals) = mpsc::channel(ARRIVALS_MAX);
        Self { arrivals, task: actix_rt::spawn(poll(events, tell)) }
    }

    /// The next arrival. Cancel safe.
    pub(super) async fn next(&mut self) -> Arrival {
        self.arrivals.recv().await.unwrap_or_else(|| Arrival::Lost("the poller ended".into()))
    }
}

async fn poll(mut events: EventLoop, tell: mpsc::Sender<Arrival>) {
    loop {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "everything else is rumqttc's own business"
        )]
        let arrival = match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(message))) => Arrival::Message(message),
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                Arrival::Connected { session_present: ack.session_present }
            }
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let codes = ack.return_codes.iter().enumerate();
                let refused = codes.filter(|(_, code)| **code == SubscribeReasonCode::Failure);
                let refused = refused.map(|(index, _)| index).collect();
                Arrival::Answered { packet_id: ack.pkid, refused }
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                Arrival::Answered { packet_id: ack.pkid, refused: Vec::new() }
            }
            Ok(Event::Incoming(Packet::UnsubAck(ack))) => {
                Arrival::Answered { packet_id: ack.pkid, refused: Vec::new() }
            }
            // Said at most once: it has no id and no answer.
            Ok(Event::Outgoing(Outgoing::Publish(0))) => continue,
            Ok(Event::Outgoing(
                Outgoing::Publish(id) | Outgoing::Subscribe(id) | Outgoing::Unsubscribe(id),
            )) => Arrival::Left(id),
            Ok(_) => continue,
            Err(error) => Arrival::Lost(words(&error)),
        };
        let over = matches!(arrival, Arrival::Lost(_));
        if tell.send(arrival).await.is_err() || over {
            return;
        }
    }
}

/// Why a connection ended, for the person who must do something about it.
fn words(error: &ConnectionError) -> String {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are told in rumqttc's words")]
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                "the broker refuses the hub's credentials; check broker_username, broker_password_file and the certificate".into()
            }
            ConnectReturnCode::BadClientId => "the broker refuses broker_client_id".into(),
            code => format!("the broker refuses the connection: {code:?}"),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            "the broker does not answer in time".into()
        }
        ConnectionError::Io(error) => format!("the broker cannot be reached: {error}"),
        ConnectionError::Tls(error) => format!("no TLS connection to the broker: {error}"),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "the broker closed the connection; does another client use the same broker_client_id?".into()
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => "the broker fell silent".into(),
        error => error.to_string(),
    }
}
