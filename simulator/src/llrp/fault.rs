//! What can be wrong with a reader, for tests. Once = it strikes the next message of its kind and is over.

/// Faults of a reader; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every client is refused with this status of ConnectionAttemptEvent.
    pub refuse: Option<u16>,
    /// It takes connections and does not greet.
    pub mute: bool,
    /// Once: the next report ends half-way, and nothing comes after it.
    pub hang: bool,
    /// Once: the next report says it has so many bytes.
    pub lie: Option<u32>,
    /// Once: the first TagReportData of the next report says it has more bytes than the report.
    pub inner_lie: bool,
    /// Once: a message of a number that no standard has comes before the next report.
    pub unknown: bool,
    /// Every report comes twice.
    pub duplicate: bool,
    /// Every report comes after the one that follows it.
    pub reorder: bool,
    /// Once: the next report also has a tag with an empty EPC memory.
    pub empty_epc: bool,
    /// Once: the next report also has a tag with an EPC of 496 bits.
    pub long_epc: bool,
    /// It has no clock and stamps with the time since it started.
    pub uptime: bool,
    /// Its clock is off by so many microseconds.
    pub clock_off_us: i64,
    /// It gives no signs of life and reports nothing, and keeps the connection.
    pub silent: bool,
    /// It answers no request.
    pub deaf: bool,
    /// It refuses ADD_ROSPEC.
    pub refuse_rospec: bool,
    /// It does not begin by itself what should begin at once.
    pub lazy: bool,
    /// Bytes a second that it writes at most.
    pub slow: Option<u32>,
}
