//! The limits of the endpoint: every queue, buffer, list and wait of the MQTT edge is bounded by a field here.
//!
//! A limit names its unit. Defaults fit a site of a thousand busy or ten thousand quiet devices on two cores.
//! Changing a limit never changes what is durable, only who has to wait or is refused, and with which reason.

use std::time::Duration;

/// Largest packet accepted before CONNECT has been checked, bytes. A CONNECT with will and credentials fits.
pub const CONNECT_BYTES_MAX: u32 = 8 * 1024;
/// Control messages a connection's mailbox holds. Hints are coalesced, so two slots would do.
pub const MAILBOX_MESSAGES_MAX: usize = 8;
/// Bytes read from a socket in one system call, into a buffer shared by the connections of an arbiter.
pub const READ_BYTES_MAX: usize = 64 * 1024;
/// Addresses whose connect rate is remembered; beyond it idle ones are forgotten, then newcomers share one budget.
pub const ADDRESSES_MAX: usize = 4096;
/// Bytes a refused client may still send while the hub waits for it to read its DISCONNECT.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Lines the log takes of one cause of refusal in a round ([`REFUSAL_ROUND_MS`]); the others are counted and told in one.
pub const REFUSAL_LINES_MAX: u64 = 5;
/// How long a round of the log's patience is, milliseconds.
pub const REFUSAL_ROUND_MS: u64 = 60_000;

/// All configurable limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in total; the next one is closed at accept.
    pub connections_max: usize,
    /// New connections a second from one address (IPv6: one /64), sustained.
    pub connects_per_second_per_address_max: u32,
    /// New connections from one address in a burst.
    pub connects_burst_per_address_max: u32,
    /// CONNECTs of one device a minute, sustained; more is flapping and refused (0x9F, or 3 in 3.1.1).
    pub connects_per_minute_per_device_max: u32,
    /// CONNECTs of one device in a burst.
    pub connects_burst_per_device_max: u32,
    /// From accept to a complete CONNECT, milliseconds.
    pub connect_deadline_ms: u64,
    /// TLS handshakes at once; the next socket is closed.
    pub handshakes_max: usize,
    /// From accept to a complete TLS handshake, milliseconds; CONNECT's deadline begins after it.
    pub handshake_ms_max: u64,
    /// Longest keep-alive granted to an MQTT 5 client, seconds (Server Keep Alive); 3.1.1 clients keep their own.
    pub keep_alive_seconds_max: u16,
    /// A refused client may take this long to read its DISCONNECT, milliseconds.
    pub linger_ms_max: u64,
    /// A client that takes no byte of a pending write for this long is cut, milliseconds.
    pub write_stall_ms_max: u64,
    /// Bytes waiting to be written to one client before it is cut.
    pub out_bytes_max: usize,
    /// Largest packet in, bytes with its header (MQTT 5: Maximum Packet Size).
    pub packet_bytes_max: u32,
    /// QoS 1 and 2 publishes a client may have unacknowledged (MQTT 5: Receive Maximum).
    pub receive_max: u16,
    /// Publishes of one connection that wait for the journal, any QoS; at the limit its socket is not read.
    pub pending_publishes_max: usize,
    /// Payload bytes of one connection that wait for the journal; at the limit its socket is not read.
    pub pending_bytes_max: usize,
    /// Wait before the journal is tried again after it was full, milliseconds.
    pub journal_retry_ms: u64,
    /// Publishes a second of one device, sustained; more waits in the socket.
    pub publishes_per_second_per_device_max: u32,
    /// Publishes of one device in a burst.
    pub publishes_burst_per_device_max: u32,
    /// Published bytes a second of one device, sustained; more waits in the socket.
    pub publish_bytes_per_second_per_device_max: u32,
    /// Published bytes of one device in a burst.
    pub publish_bytes_burst_per_device_max: u32,
    /// Topic aliases an MQTT 5 client may define (Topic Alias Maximum).
    pub topic_aliases_max: u16,
    /// Bytes of a topic name or filter.
    pub topic_bytes_max: usize,
    /// Levels of a topic name or filter.
    pub topic_levels_max: usize,
    /// Bytes of a client id.
    pub client_id_bytes_max: usize,
    /// Filters one client may hold.
    pub subscriptions_per_client_max: usize,
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_per_packet_max: usize,
    /// User properties in one packet.
    pub user_properties_max: usize,
    /// Messages queued for one client, connected or not, beside those in flight.
    pub outbox_messages_max: usize,
    /// Bytes queued for one client.
    pub outbox_bytes_max: usize,
    /// Bytes queued for all clients together.
    pub outbox_total_bytes_max: usize,
    /// QoS 1 and 2 messages in flight to one client; its own Receive Maximum may lower it.
    pub outbound_in_flight_max: u16,
    /// Clients of one device, connected or away; one that is away makes room.
    pub clients_per_device_max: usize,
    /// Clients that are away and whose session is kept.
    pub sessions_away_max: usize,
    /// Longest session expiry, seconds; also that of a 3.1.1 client with clean session 0.
    pub session_expiry_seconds_max: u32,
    /// Longest will delay, seconds.
    pub will_delay_seconds_max: u32,
    /// Retained messages.
    pub retained_messages_max: usize,
    /// Bytes of all retained messages, topics included.
    pub retained_bytes_max: usize,
    /// From the start of a drain until connections are closed whether or not their appends are durable, milliseconds.
    pub drain_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connects_per_second_per_address_max: 2_000,
            connects_burst_per_address_max: 20_000,
            connects_per_minute_per_device_max: 60,
            connects_burst_per_device_max: 30,
            connect_deadline_ms: 10_000,
            handshakes_max: 2_048,
            handshake_ms_max: 5_000,
            keep_alive_seconds_max: 1_200,
            linger_ms_max: 1_000,
            write_stall_ms_max: 30_000,
            out_bytes_max: 512 * 1024,
            packet_bytes_max: 128 * 1024,
            receive_max: 1_024,
            pending_publishes_max: 4_096,
            pending_bytes_max: 1024 * 1024,
            journal_retry_ms: 5,
            publishes_per_second_per_device_max: 5_000,
            publishes_burst_per_device_max: 10_000,
            publish_bytes_per_second_per_device_max: 4 * 1024 * 1024,
            publish_bytes_burst_per_device_max: 8 * 1024 * 1024,
            topic_aliases_max: 16,
            topic_bytes_max: 1_024,
            topic_levels_max: 32,
            client_id_bytes_max: 128,
            subscriptions_per_client_max: 64,
            filters_per_packet_max: 32,
            user_properties_max: 32,
            outbox_messages_max: 1_024,
            outbox_bytes_max: 512 * 1024,
            outbox_total_bytes_max: 64 * 1024 * 1024,
            outbound_in_flight_max: 64,
            clients_per_device_max: 32,
            sessions_away_max: 20_000,
            session_expiry_seconds_max: 7 * 86_400,
            will_delay_seconds_max: 86_400,
            retained_messages_max: 10_000,
            retained_bytes_max: 16 * 1024 * 1024,
            drain_ms_max: 2_000,
        }
    }
}

impl Limits {
    /// The CONNECT deadline as a duration.
    pub fn connect_deadline(&self) -> Duration {
        Duration::from_millis(self.connect_deadline_ms)
    }

    /// Bytes of output beyond which neither the queue nor the socket of a client is read on.
    pub fn out_bytes_soft(&self) -> usize {
        self.out_bytes_max / 4
    }
}
