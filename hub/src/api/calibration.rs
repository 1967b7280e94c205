//! The calibration wizard over HTTP: empty, a known weight, verify, apply. Each call answers with the whole state, so that a
//! page can draw it; the rules are in `crate::calibration`.

use actix_web::{HttpResponse, http::StatusCode, web};
use device_profiles::{FacilityId, limits::MASS_MG_MAX};
use fold::HubTime;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    devices,
    master::ListQuery,
    problem::Problem,
    request::{Json, Page, Query, bad_cursor, id},
};
use crate::{
    calibration::{
        Busy, Cell, IDLE_SECONDS_DEFAULT, IDLE_SECONDS_MAX, Key, Live, Refusal, Step, Trouble,
        WIZARDS_MAX, Wizard,
    },
    store::{
        calibration::{Applied, NewCalibration},
        read_master::Device,
        when::When,
    },
};

type Answer = Result<HttpResponse, Problem>;

/// How a calibration begins.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// How far the figure of a known weight may be off when it is verified, milligrams; two divisions or a five-hundredth of the
    /// weight when absent.
    tolerance_mg: Option<i64>,
    /// How long it may rest between two steps, in seconds, at most 3600; 900 when absent.
    idle_s: Option<u32>,
}

/// A weight that lies on the cell now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Its mass, milligrams.
    mass_mg: i64,
}

/// What lies on the cell to verify.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Its mass, milligrams; that of the weight before when absent. Another weight verifies more.
    mass_mg: Option<i64>,
}

/// A calibration under way.
#[derive(Debug, Serialize, ToSchema)]
pub struct Calibrating {
    /// Its device.
    device: String,
    /// Its channel.
    channel: String,
    /// The slot on it.
    slot: String,
    /// Who began it.
    begun_by: String,
    /// When it is dropped unless a step is taken.
    expires_at: When,
    /// What comes next: `empty`, `weight`, `verify` or `apply`.
    step: &'static str,
    /// What was measured so far: raw reading of the empty slot, milligrams.
    zero_mg: Option<i64>,
    /// What was measured so far: scale in millionths.
    scale_ppm: Option<i64>,
    /// The weight it was measured with, milligrams.
    known_mg: Option<i64>,
    /// What verifying showed.
    verified: Option<Verified>,
    /// What the cell shows now.
    live: LiveCell,
}

/// What verifying a calibration showed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verified {
    /// What lay there, milligrams.
    known_mg: i64,
    /// What the new calibration makes of it, milligrams.
    shown_mg: i64,
    /// Shown less known, milligrams.
    error_mg: i64,
    /// The same in percent of the weight.
    error_percent: f64,
    /// How far it may be off, milligrams.
    tolerance_mg: i64,
    /// It is within its tolerance, and may be applied.
    ok: bool,
}

/// What a cell shows now.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveCell {
    /// Its raw reading, milligrams; absent before the first.
    raw_mg: Option<i64>,
    /// When that came.
    at: Option<When>,
    /// What the calibration measured so far makes of it, milligrams.
    net_mg: Option<i64>,
    /// The device's own stability flag.
    stable: Option<bool>,
    /// It stands still and can be used.
    ready: bool,
    /// Why not: `silent`, `unreachable`, `frozen`, `cell`, `overload`, `underload`, `busy` or `moving`.
    trouble: Option<&'static str>,
    /// How far the readings of the last two seconds lie apart, milligrams.
    spread_mg: i64,
    /// How far they may, milligrams.
    wanted_mg: i64,
}

fn told(wizard: &Wizard, live: &Live) -> Calibrating {
    let (values, step) = (wizard.step.values(), wizard.step);
    let (known_mg, verified) = match step {
        Step::Empty | Step::Weight { .. } => (None, None),
        Step::Verify { known_mg, .. } => (Some(known_mg), None),
        Step::Apply { known_mg, check, .. } => {
            let error = check.error_mg();
            let verified = Verified {
                known_mg: check.known_mg,
                shown_mg: check.shown_mg,
                error_mg: error,
                error_percent: error as f64 * 100.0 / (check.known_mg as f64),
                tolerance_mg: check.tolerance_mg,
                ok: check.is_good(),
            };
            (Some(known_mg), Some(verified))
        }
    };
    Calibrating {
        device: wizard.cell.device.clone(),
        channel: wizard.cell.channel.clone(),
        slot: wizard.cell.slot.clone(),
        begun_by: wizard.principal.clone(),
        expires_at: When(wizard.until().0),
        step: step.as_str(),
        zero_mg: step.zero_mg(),
        scale_ppm: values.map(|values| values.scale_ppm),
        known_mg,
        verified,
        live: LiveCell {
            raw_mg: live.raw.map(|(raw, _)| raw.0),
            at: live.raw.map(|(_, at)| When(at.0)),
            net_mg: values.zip(live.raw).map(|(values, (raw, _))| values.net(raw.0)),
            stable: live.stable,
            ready: live.settled.is_some(),
            trouble: live.trouble.map(Trouble::as_str),
            spread_mg: live.spread.0,
            wanted_mg: live.wanted.0,
        },
    }
}

/// The cell of a path.
async fn cell(api: &Api, (device, channel): &Key) -> Result<Cell, Problem> {
    let found: Device = devices::found(api, device).await?;
    let cell = found.channels.0.iter().find(|cell| cell.channel == *channel);
    let cell = cell.ok_or_else(|| {
        let detail = format!(
            "Device {device} has no cell on channel {channel:?} that carries a slot. Bind it with `channels` of the device first."
        );
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    })?;
    Ok(Cell {
        facility: found.facility.clone(),
        device: device.clone(),
        channel: channel.clone(),
        slot: cell.slot.clone(),
        division_mg: cell.division_mg,
        noise_mg: cell.noise_mg,
        capacity_mg: cell.capacity_mg,
        profile: found.profile.clone(),
        enrolled_at_us: found.created_at.0,
    })
}

/// Why no reading of a device says what lies on it now, whatever its last one was.
fn trouble_of(api: &Api, device: &str) -> Option<Trouble> {
    if api.desk.directory.find(device).is_err() {
        return Some(Trouble::Unreachable);
    }
    let (bus, unit) = api.desk.buses.of_device(device)?;
    let health = bus.handle.units.get(unit)?;
    if health.frozen.load(Relaxed) {
        return Some(Trouble::Frozen);
    }
    let answers = bus.handle.health.up.load(Relaxed)
        && !health.failing.load(Relaxed)
        && !health.aside.load(Relaxed);
    (!answers).then_some(Trouble::Unreachable)
}

/// Takes a step with the wizard of a cell.
fn with<T>(api: &Api, key: &Key, step: impl FnOnce(&mut Wizard, &Live) -> T) -> Result<T, Problem> {
    let trouble = trouble_of(api, &key.0);
    let now = HubTime(api.desk.now_us());
    let taken = api.desk.calibrations().with(key, now, |wizard, live| match trouble {
        Some(trouble) => step(wizard, &Live { settled: None, trouble: Some(trouble), ..*live }),
        None => step(wizard, live),
    });
    taken.ok_or_else(|| none(key))
}

fn none(key: &Key) -> Problem {
    let detail = format!(
        "No calibration of cell {} of device {} is under way: none was begun, or it rested too long. Begin one.",
        key.1, key.0
    );
    Problem::new(StatusCode::NOT_FOUND, "no_calibration", detail)
}

/// Where the cell stands still, or why it cannot be used.
fn settled(live: &Live) -> Result<i64, Problem> {
    if let Some(at) = live.settled {
        return Ok(at.0);
    }
    let why = match live.trouble {
        Some(Trouble::Silent(None)) => {
            "no reading came since the calibration began. Look whether the device is connected, or touch the scale if it speaks only on change".to_owned()
        }
        Some(Trouble::Silent(Some(ms))) => format!(
            "its last reading is {} s old. Look whether the device is connected, or touch the scale if it speaks only on change",
            ms / 1_000
        ),
        Some(Trouble::Unreachable) => {
            "its device is revoked, or does not answer on its bus. Look at the bus".to_owned()
        }
        Some(Trouble::Frozen) => {
            "its device repeats an old measurement. Restart the device".to_owned()
        }
        Some(Trouble::Fault(fault)) => format!(
            "its device says {}. Repair or unload the scale first",
            fault.as_str()
        ),
        Some(Trouble::Overload) => {
            "it shows more than its capacity. Take something off".to_owned()
        }
        Some(Trouble::Moving) | None => format!(
            "it does not stand still: its readings lie {} mg apart, and may {} mg. Wait until the scale is at rest",
            live.spread.0, live.wanted.0
        ),
    };
    let detail = format!("The cell cannot be used now, because {why}, then try again.");
    Err(Problem::new(StatusCode::CONFLICT, "cell_not_ready", detail).retry_after(1))
}

fn refused(refusal: &Refusal) -> Problem {
    let conflict = StatusCode::CONFLICT;
    match refusal {
        Refusal::Order(first) => Problem::new(
            conflict,
            "calibration_step",
            format!("The step was not taken, because `{first}` comes first."),
        ),
        Refusal::TooLight { .. } => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "weight_unfit",
            format!("The weight was not taken: {refusal}. Take a heavier one."),
        )
        .in_field("mass_mg"),
        Refusal::Fell(_) | Refusal::Scale(_) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "weight_unfit",
            format!(
                "The weight was not taken: {refusal}. Look whether the weight is on this cell, its mass right, and the cell wired right."
            ),
        )
        .in_field("mass_mg"),
        Refusal::Off(_) => Problem::new(
            conflict,
            "calibration_off",
            format!(
                "Nothing was applied: {refusal}. Verify again with the weight in the middle of the scale, or begin with the empty slot anew."
            ),
        ),
    }
}

fn mass(mass_mg: i64) -> Result<i64, Problem> {
    if (1..=MASS_MG_MAX).contains(&mass_mg) {
        return Ok(mass_mg);
    }
    let detail = format!("A weight of {mass_mg} mg is not possible. Give 1 to {MASS_MG_MAX} mg.");
    Err(Problem::invalid("mass_mg", detail))
}

/// Begins to calibrate a cell. Nothing changes until the calibration is applied.
#[utoipa::path(post, path = "/api/v1/devices/{device}/cells/{channel}/calibration", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path)), request_body = Begin, responses((status = 201, body = Calibrating)))]
pub async fn begin(
    api: web::Data<Api>,
    caller: Caller,
    path: web::Path<Key>,
    body: Json<Begin>,
) -> Answer {
    let Begin { tolerance_mg, idle_s } = body.0;
    let idle_s = idle_s.unwrap_or(IDLE_SECONDS_DEFAULT);
    if !(1..=IDLE_SECONDS_MAX).contains(&idle_s) {
        let detail = format!("A calibration rests 1 to {IDLE_SECONDS_MAX} s between two steps.");
        return Err(Problem::invalid("idle_s", detail));
    }
    if let Some(wrong) = tolerance_mg.filter(|mg| !(1..=MASS_MG_MAX).contains(mg)) {
        let detail = format!("A tolerance of {wrong} mg is not possible.");
        return Err(Problem::invalid("tolerance_mg", detail));
    }
    let cell = cell(&api, &path).await?;
    let now = HubTime(api.desk.now_us());
    let wizard = Wizard::new(cell, caller.name.to_string(), tolerance_mg, idle_s, now);
    match api.desk.calibrations().begin(wizard, now) {
        Ok((wizard, live)) => Ok(HttpResponse::Created().json(told(&wizard, &live))),
        Err(Busy::Taken { by, until }) => {
            let until = device_profiles::time::format_rfc3339_us(until.0);
            let detail = format!(
                "{by} calibrates this cell, and keeps it until {until} if nothing more is done. Go on with that one, or end it with DELETE."
            );
            Err(Problem::new(StatusCode::CONFLICT, "calibration_taken", detail))
        }
        Err(Busy::Full) => {
            let detail = format!(
                "{WIZARDS_MAX} calibrations are under way, which is as many as the hub keeps. End one, or wait."
            );
            let full = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "calibrations_full", detail);
            Err(full.retry_after(60))
        }
    }
}

/// How the calibration of a cell stands, and what the cell shows now.
#[utoipa::path(get, path = "/api/v1/devices/{device}/cells/{channel}/calibration", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path)), responses((status = 200, body = Calibrating)))]
pub async fn get(api: web::Data<Api>, path: web::Path<Key>) -> Answer {
    let state = with(&api, &path, |wizard, live| told(wizard, live))?;
    Ok(HttpResponse::Ok().json(state))
}

/// Drops the calibration of a cell that is under way; nothing was changed.
#[utoipa::path(delete, path = "/api/v1/devices/{device}/cells/{channel}/calibration", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path)), responses((status = 204, description = "Dropped")))]
pub async fn delete(api: web::Data<Api>, path: web::Path<Key>) -> Answer {
    if api.desk.calibrations().end(&path) {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(none(&path))
}

/// The slot is empty: takes what the cell shows for its zero. Refused unless the cell stands still.
#[utoipa::path(post, path = "/api/v1/devices/{device}/cells/{channel}/calibration/empty", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path)), responses((status = 200, body = Calibrating)))]
pub async fn empty(api: web::Data<Api>, path: web::Path<Key>) -> Answer {
    let now = HubTime(api.desk.now_us());
    let state = with(&api, &path, |wizard, live| {
        wizard.empty(settled(live)?, now);
        Ok::<_, Problem>(told(wizard, live))
    })??;
    Ok(HttpResponse::Ok().json(state))
}

/// A known weight lies on the cell: computes the scale. Refused unless the cell stands still and the weight changed it enough.
#[utoipa::path(post, path = "/api/v1/devices/{device}/cells/{channel}/calibration/weight", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path)), request_body = Weight, responses((status = 200, body = Calibrating)))]
pub async fn weight(api: web::Data<Api>, path: web::Path<Key>, body: Json<Weight>) -> Answer {
    let (known, now) = (mass(body.0.mass_mg)?, HubTime(api.desk.now_us()));
    let state = with(&api, &path, |wizard, live| {
        if wizard.step.zero_mg().is_none() {
            return Err(refused(&Refusal::Order(wizard.step.as_str())));
        }
        wizard.weight(settled(live)?, known, now).map_err(|refusal| refused(&refusal))?;
        Ok(told(wizard, live))
    })??;
    Ok(HttpResponse::Ok().json(state))
}

/// Looks at a weight with the new calibration: how far is it off?
#[utoipa::path(post, path = "/api/v1/devices/{device}/cells/{channel}/calibration/verify", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path)), request_body = Verify, responses((status = 200, body = Calibrating)))]
pub async fn verify(api: web::Data<Api>, path: web::Path<Key>, body: Json<Verify>) -> Answer {
    let (known, now) = (body.0.mass_mg.map(mass).transpose()?, HubTime(api.desk.now_us()));
    let state = with(&api, &path, |wizard, live| {
        if wizard.step.values().is_none() {
            return Err(refused(&Refusal::Order(wizard.step.as_str())));
        }
        wizard.verify(settled(live)?, known, now).map_err(|refusal| refused(&refusal))?;
        Ok(told(wizard, live))
    })??;
    Ok(HttpResponse::Ok().json(state))
}

/// Applies a calibration that was verified and is good: it is written and published to the fold, and the wizard ends.
#[utoipa::path(post, path = "/api/v1/devices/{device}/cells/{channel}/calibration/apply", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path)), responses((status = 201, body = Applied), (status = 202, body = Applied, description = "Written, not folded yet")))]
pub async fn apply(api: web::Data<Api>, caller: Caller, path: web::Path<Key>) -> Answer {
    let calibrations = api.desk.calibrations();
    let taken = calibrations.take(&path, HubTime(api.desk.now_us())).ok_or_else(|| none(&path))?;
    let taken = taken.map_err(|refusal| refused(&refusal))?;
    let bound = cell(&api, &path).await;
    let cell = taken.wizard().cell.clone();
    if bound.is_ok_and(|bound| bound != cell) {
        let detail = format!(
            "Nothing was applied: cell {} of device {} was enrolled or bound otherwise since. Begin anew.",
            cell.channel, cell.device
        );
        return Err(Problem::new(StatusCode::CONFLICT, "calibration_step", detail));
    }
    let measured = taken.wizard().apply();
    let (values, known_mg, check) = measured.map_err(|refusal| refused(&refusal))?;
    let new = NewCalibration {
        device: &cell.device,
        channel: &cell.channel,
        slot: &cell.slot,
        zero_mg: values.zero_mg,
        scale_ppm: values.scale_ppm,
        known_mg,
        error_mg: check.error_mg(),
        principal: &caller.name,
    };
    let written = match api.desk.store.calibrate(new).await {
        Ok(written) => written,
        Err(fault) => {
            // The store is away: the wizard goes on, so that this can be tried again.
            calibrations.put_back(taken);
            return Err(fault.into());
        }
    };
    let Some(applied) = written else {
        let detail = format!(
            "Nothing was applied: cell {} of device {} does not carry slot {} any more. Begin anew.",
            cell.channel, cell.device, cell.slot
        );
        return Err(Problem::new(StatusCode::CONFLICT, "calibration_step", detail));
    };
    let facility: FacilityId = id("facility", &applied.facility)?;
    let published = api.publish(&[facility]).await;
    let mut answer = if published { HttpResponse::Created() } else { HttpResponse::Accepted() };
    Ok(answer.json(applied))
}

/// Calibrations of a cell that were applied, newest first.
#[utoipa::path(get, path = "/api/v1/devices/{device}/cells/{channel}/calibrations", tag = "calibration", params(("device" = String, Path), ("channel" = String, Path), ListQuery), responses((status = 200, body = Page<Applied>)))]
pub async fn list(api: web::Data<Api>, path: web::Path<Key>, query: Query<ListQuery>) -> Answer {
    let (device, channel) = path.into_inner();
    api.device_known(Some(&device)).await?;
    let paging = query.0.paging::<1>()?;
    let before = match &paging.after {
        Some([revision]) => Some(revision.parse().map_err(|_| bad_cursor())?),
        None => None,
    };
    let rows = api.desk.store.calibrations(&device, &channel, before, paging.fetch()).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, |c| [c.revision.to_string()])))
}
