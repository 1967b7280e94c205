//! The hub: composition root of Stockfold.
//!
//! ```text
//!  mqtt, tls ─┐
//!     broker ─► ingress ─► journal (actors) ─► stock actors ─► store ─► feed, api, page
//!               └ directory, tap      └─► series, trim     └─► publish ─► journal
//! ```
//! [`run`] puts it together, [`desk`] is the one door from HTTP to the rest, [`observe`] what it tells of itself.

pub mod api;
pub mod broker;
pub mod buses;
pub mod calibration;
pub mod config;
pub mod data_dir;
pub mod desk;
pub mod directory;
pub mod downlink;
pub mod elsewhere;
pub mod feed;
pub mod fleet;
pub mod foreign;
pub mod ingress;
pub mod mqtt;
pub mod observe;
pub mod publish;
pub mod readers;
pub mod refusals;
pub mod replay;
pub mod run;
pub mod series;
pub mod sparkplug;
pub mod store;
pub mod tap;
pub mod tls;
pub mod trim;
pub mod what_if;
pub mod whole_file;
