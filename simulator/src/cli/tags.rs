//! `tags`: a simulated world of tags on the wall clock; its readers are told to a hub, and served by LLRP or publish to it.

use std::{net::TcpListener, sync::Arc};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use simulator::{
    clock::WallClock,
    hub::Hub,
    llrp::{self, Config},
    mqtt::{client, packet::Version},
    publish::{Format, Impinj, Zebra, feed},
    rfid::{Live, Model, Scenario, World, layout},
};
use tokio::task::JoinSet;

use super::{
    args::{Physics, TagsArgs, Via},
    screen::say,
};

/// Unacknowledged messages of a publishing reader.
const WINDOW_MESSAGES: u16 = 16;
/// Keep-alive of a publishing reader, s.
const KEEP_ALIVE_S: u16 = 30;

pub fn tags(args: &TagsArgs) -> Result<bool> {
    ensure!(args.hours > 0.0 && args.hours <= 720.0, "--hours must be above 0 and at most 720");
    let mut scenario = Scenario::builtin(&args.scenario)?;
    scenario.duration_s = args.hours * 3_600.0;
    let world = Arc::new(World::new(&scenario)?);
    let hub = super::hub(&args.hub)?;
    let model = match args.physics {
        Physics::Epochs => Model::Epochs,
        Physics::Geometry => Model::Geometry,
    };
    let live = Live::new(&world, model, WallClock::start().unix_us());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let format = match args.via {
        Via::Llrp => {
            let listeners = listeners(args, &world, &hub)?;
            return runtime.block_on(async {
                let _served = llrp::serve_many(listeners, &Config::default(), |n| live.source(n))?;
                tokio::signal::ctrl_c().await?;
                Ok(true)
            });
        }
        Via::Impinj => |reader: &str| Format::Impinj(Impinj::new(reader)),
        Via::Zebra => |_: &str| Format::Zebra(Zebra::default()),
    };
    let feeds = publishers(args, &world, &hub, format)?;
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for (index, (config, format)) in feeds.into_iter().enumerate() {
            running.spawn(feed(config, format, live.source(index)));
        }
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed?,
            // None ends but by an error that trying again does not mend.
            Some(ended) = running.join_next() => ended??,
        }
        Ok(true)
    })
}

/// A listener for each reader, each a bus of the hub.
fn listeners(args: &TagsArgs, world: &World, hub: &Hub) -> Result<Vec<TcpListener>> {
    hub.post("/import", &layout(world, &args.facility, "llrp-reader"), None)?;
    let mut listeners = Vec::new();
    for reader in &world.site.readers {
        let listener = TcpListener::bind((args.bind, 0))
            .with_context(|| format!("cannot listen on {} for {reader}", args.bind))?;
        let address = format!("llrp://{}", listener.local_addr()?);
        // A demo that is started again has other ports.
        hub.delete(&format!("/buses/{reader}"))?;
        let bus = json!({ "id": reader, "facility": args.facility, "address": address });
        hub.post("/buses", &bus, None)?;
        hub.put(&format!("/devices/{reader}/bus"), &json!({ "bus": reader, "unit": 1 }))?;
        say(&format!("{reader} listens on {address}"));
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Each reader's connection and how it writes.
fn publishers(
    args: &TagsArgs,
    world: &World,
    hub: &Hub,
    format: fn(&str) -> Format,
) -> Result<Vec<(client::Config, Format)>> {
    let readers = &world.site.readers;
    let profile = format("").profile();
    for reader in readers {
        // It may have been served by LLRP before.
        hub.delete(&format!("/buses/{reader}"))?;
    }
    let data = layout(world, &args.facility, profile);
    let passwords = hub.enrol(&data, readers.iter().map(String::as_str))?;
    let each = readers.iter().enumerate().map(|(index, reader)| {
        let password = passwords.get(reader).cloned();
        let config = client::Config {
            index,
            address: args.mqtt.clone(),
            device: reader.clone(),
            password: password.with_context(|| format!("the hub gave {reader} no password"))?,
            version: Version::V5,
            qos1: true,
            window: WINDOW_MESSAGES,
            keep_alive_s: KEEP_ALIVE_S,
            subscribe: None,
            seed: index as u64,
        };
        let format = format(reader);
        say(&format!("{reader} publishes to {}", format.topic(reader)));
        Ok((config, format))
    });
    each.collect()
}
