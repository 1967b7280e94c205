//! `tags`: a simulated world of tags on the wall clock; its readers are served by LLRP and told to a hub.

use std::{net::TcpListener, sync::Arc};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use simulator::{
    clock::WallClock,
    llrp::{self, Config},
    rfid::{Live, Model, Scenario, World, layout},
};

use super::{
    args::{Physics, TagsArgs},
    screen::say,
};

pub fn tags(args: &TagsArgs) -> Result<bool> {
    ensure!(args.hours > 0.0 && args.hours <= 720.0, "--hours must be above 0 and at most 720");
    let mut scenario = Scenario::builtin(&args.scenario)?;
    scenario.duration_s = args.hours * 3_600.0;
    let world = Arc::new(World::new(&scenario)?);
    let hub = super::hub(&args.hub)?;
    hub.post("/import", &layout(&world, &args.facility), None)?;
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
    let model = match args.physics {
        Physics::Epochs => Model::Epochs,
        Physics::Geometry => Model::Geometry,
    };
    let live = Live::new(&world, model, WallClock::start().unix_us());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let _served = llrp::serve_many(listeners, &Config::default(), |n| live.source(n))?;
        tokio::signal::ctrl_c().await?;
        Ok(true)
    })
}
