//! What the feed says to a client. `docs/openapi.json` has these as `LiveMessage`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    desk::LiveValue,
    store::{
        told::{EventTold, MovementTold, StockLine},
        when::When,
    },
};

/// A line that was in a slot and is there no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineGone {
    /// The slot.
    pub slot: String,
    /// The SKU.
    pub sku: String,
}

/// A message of the live feed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[schema(as = LiveMessage)]
pub enum Message<'a> {
    /// The state as of a position. Comes first, and again whenever deltas were lost.
    Snapshot {
        /// Everything up to here is in it.
        position: String,
        /// Every line.
        stock: &'a [StockLine],
    },
    /// What changed since the message before.
    Delta {
        /// Everything up to here is in it.
        position: String,
        /// Lines that changed, as they are now.
        stock: Vec<&'a StockLine>,
        /// Lines that are there no more.
        gone: &'a [LineGone],
        /// The newest movements, oldest first.
        movements: Vec<&'a MovementTold>,
        /// The newest events, oldest first.
        events: Vec<&'a EventTold>,
        /// Movements left out because there were too many.
        movements_skipped: u64,
        /// Events left out because there were too many.
        events_skipped: u64,
    },
    /// Nothing else, but the link is well.
    Heartbeat {
        /// Everything up to here was told.
        position: String,
        /// Hub time.
        at: When,
    },
    /// What sensors show now. Lossy, never stock.
    Live {
        /// The values.
        values: Vec<LiveTold<'a>>,
    },
}

impl Message<'_> {
    /// As JSON.
    pub fn text(&self) -> bytestring::ByteString {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// A sensor value as it is told.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveTold<'a> {
    device: &'a str,
    /// Series name.
    name: &'a str,
    value: f64,
    /// The load cell's channel, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    /// Gross mass, when it is a load cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    grams: Option<f64>,
    at: When,
}

impl<'a> From<&'a LiveValue> for LiveTold<'a> {
    fn from(value: &'a LiveValue) -> Self {
        let channel = value.name.strip_prefix("weight.");
        Self {
            device: &value.device,
            name: &value.name,
            value: value.value,
            channel,
            grams: channel.map(|_| value.value),
            at: When(value.at_us),
        }
    }
}
