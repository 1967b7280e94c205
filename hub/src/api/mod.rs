//! The HTTP API and the overview page, on actix-web.
//!
//! ```text
//!  request ─► guard: id · permission of the route · caller · own page · min_position ─► handler ─► store (reads, master data)
//!     ▲                                                                                       └──► desk  (journal, live hub)
//!     └── problem+json, security headers ◄──────────────────────────────────────────────── answer or Problem
//! ```
//! [`routes`] is the one table of what there is. Reads ask PostgreSQL; calls that change stock are appended to the journal
//! and answered from what was committed; master data is written to PostgreSQL and published from there. The rules that a
//! schema cannot hold are in `docs/specs/api.md`.
//!
//! `/metrics` is open when the listener is bound to a loopback address and needs the token otherwise: a scraper on the same
//! machine has no secrets to keep, one elsewhere does.

mod accounts;
pub mod auth;
mod buses;
mod calibration;
mod certificates;
mod commands;
mod device_events;
mod devices;
mod downlink;
mod explain;
mod guard;
mod json_path;
pub mod limits;
mod master;
mod narrative;
mod openapi;
mod outside;
mod page;
pub mod permission;
pub mod problem;
mod profiles;
mod push;
mod readers;
mod readings;
mod removal;
pub mod request;
pub mod routes;
mod scanners;
pub mod secret;
mod stock;
mod tag_name;
mod tags;
mod validate;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use actix_web::{App, HttpServer, dev, middleware, web};
use device_profiles::{DeviceId, FacilityId};
use futures_util::future::join_all;

use self::{limits::PUBLISH_WAIT, problem::Problem};
use crate::{desk::Desk, feed::Feed};

pub use self::{auth::Auth, explain::decoded, guard::same_origin, openapi::openapi_json};

/// What handlers share.
pub struct Api {
    /// The running hub.
    pub desk: Desk,
    /// Who may call.
    pub auth: Auth,
    /// The live feed.
    pub feed: Feed,
    metrics_open: bool,
    request_ids: guard::RequestIds,
    /// Shards of facilities, so that stock calls reach the journal while PostgreSQL is away.
    shards: Mutex<HashMap<FacilityId, u16>>,
}

impl Api {
    /// The API of a hub. `metrics_open` when only this machine can reach it. Starts the feed on the current arbiter.
    pub fn new(desk: Desk, auth: Auth, metrics_open: bool) -> Self {
        let feed = Feed::start(desk.clone());
        Self {
            desk,
            auth,
            feed,
            metrics_open,
            request_ids: guard::RequestIds::new(),
            shards: Mutex::default(),
        }
    }

    /// A facility that a list is asked for must exist: an empty list would say that nothing happened there.
    pub(crate) async fn facility_known(&self, facility: Option<&str>) -> Result<(), Problem> {
        let Some(facility) = facility else { return Ok(()) };
        let facility: FacilityId = request::id("facility", facility)?;
        self.shard_of(&facility).await.map(drop)
    }

    /// A device that a list is asked for must exist, or have existed.
    pub(crate) async fn device_known(&self, device: Option<&str>) -> Result<(), Problem> {
        let Some(device) = device else { return Ok(()) };
        let id: DeviceId = request::id("device", device)?;
        match self.desk.store.knows_device(id.as_str()).await? {
            true => Ok(()),
            false => Err(Problem::not_found("device", device)),
        }
    }

    /// The shard of a facility. It never changes, so it is asked for once.
    pub(crate) async fn shard_of(&self, facility: &FacilityId) -> Result<u16, Problem> {
        let known =
            self.shards.lock().unwrap_or_else(PoisonError::into_inner).get(facility).copied();
        if let Some(shard) = known {
            return Ok(shard);
        }
        let found = self.desk.store.facility(facility.as_str()).await?;
        let found = found.ok_or_else(|| Problem::not_found("facility", facility.as_str()))?;
        let shard = found.shard.cast_unsigned();
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).insert(facility.clone(), shard);
        Ok(shard)
    }

    /// Makes written master data known to the folds; false when that takes longer than a call should.
    pub(crate) async fn publish(&self, facilities: &[FacilityId]) -> bool {
        if facilities.is_empty() {
            return true;
        }
        self.desk.publish_soon();
        for facility in facilities {
            self.feed.places_changed(facility).await;
        }
        let waits = facilities.iter().map(|facility| self.desk.published(facility, PUBLISH_WAIT));
        join_all(waits).await.into_iter().all(|published| published)
    }
}

/// Everything the hub answers over HTTP, as a part of an actix-web app.
pub fn configure(api: web::Data<Api>) -> impl Fn(&mut web::ServiceConfig) + Clone {
    move |config| {
        let all = web::scope("")
            .app_data(api.clone())
            .configure(routes::register)
            .default_service(web::to(outside::nothing_here))
            .wrap(middleware::from_fn(guard::guard))
            .wrap(middleware::Compress::default());
        config.app_data(api.clone()).service(all);
    }
}

/// A bound server that answers once it is run.
pub struct Listening {
    /// Where it listens; the real port when 0 was asked for.
    pub address: SocketAddr,
    server: dev::Server,
    feed: Feed,
}

/// Stops a server from elsewhere.
#[derive(Clone)]
pub struct Stopper {
    handle: dev::ServerHandle,
    feed: Feed,
}

impl Listening {
    /// Something to stop it with.
    pub fn stopper(&self) -> Stopper {
        Stopper { handle: self.server.handle(), feed: self.feed.clone() }
    }
    /// Answers until it is stopped.
    pub async fn run(self) -> io::Result<()> {
        self.server.await
    }
}

impl Stopper {
    /// Says goodbye to live clients, finishes open requests, and stops.
    pub async fn stop(&self) {
        // actix would keep open WebSockets until its timeout.
        self.feed.stop();
        self.handle.stop(true).await;
    }
}

/// Binds the API of a hub. Call it inside an actix system; the feed runs on the current arbiter.
pub fn serve(desk: Desk, bind: SocketAddr, auth: Auth, workers: usize) -> io::Result<Listening> {
    let api = web::Data::new(Api::new(desk, auth, bind.ip().is_loopback()));
    let feed = api.feed.clone();
    let server = HttpServer::new(move || App::new().configure(configure(api.clone())))
        .workers(workers.max(1))
        .max_connections(limits::CONNECTIONS_MAX)
        .client_request_timeout(limits::REQUEST_HEAD_WAIT)
        .shutdown_timeout(limits::SHUTDOWN_SECONDS_MAX)
        .disable_signals()
        .bind(bind)?;
    let address = server.addrs().first().copied().unwrap_or(bind);
    Ok(Listening { address, server: server.run(), feed })
}
