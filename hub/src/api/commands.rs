//! Calls that change stock: appended to the journal, answered from what was committed.
//!
//! The Idempotency-Key is remembered twice. The fold remembers it for a day, so a call takes effect once, whatever happens
//! here. A row in PostgreSQL remembers where the call was journaled, so a repeat is answered with the same movements, also
//! after a restart. When the row could not be written (PostgreSQL away, a crash in between), the repeat is appended again, the
//! fold finds it a repeat, and the first one is looked for among the facility's newest entries.

use actix_web::{HttpResponse, http::StatusCode, web};
use device_profiles::{Channel, DeviceId, FacilityId, Sku, SlotId, Units, ZoneId};
use fold::{Body, Command, CommandEntry, HubTime, Position, Principal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    Api,
    accounts::time,
    auth::Caller,
    limits::{COMMIT_WAIT, KEY_SEARCH_ENTRIES_MAX, KEY_WAIT},
    problem::Problem,
    request::{IdempotencyKey, Json, id},
    tags::one_tag,
};
use crate::{
    desk::Desk,
    store::{access::KeyState, fault::Fault, told::MovementTold, when::When},
};

type Answer = Result<HttpResponse, Problem>;

/// Goods came in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Where; the facility's receiving slot when absent.
    #[schema(value_type = Option<String>)]
    slot: Option<SlotId>,
    /// What.
    #[schema(value_type = String)]
    sku: Sku,
    /// How many.
    quantity: i64,
    /// Delivery note or order.
    reference: Option<String>,
}

/// Goods went out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// Where from.
    #[schema(value_type = String)]
    slot: SlotId,
    /// What.
    #[schema(value_type = String)]
    sku: Sku,
    /// How many.
    quantity: i64,
    /// Order.
    reference: Option<String>,
}

/// Goods changed place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Where from.
    #[schema(value_type = String)]
    from: SlotId,
    /// Where to.
    #[schema(value_type = String)]
    to: SlotId,
    /// What.
    #[schema(value_type = String)]
    sku: Sku,
    /// How many.
    quantity: i64,
}

/// Somebody counted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Where.
    #[schema(value_type = String)]
    slot: SlotId,
    /// What.
    #[schema(value_type = String)]
    sku: Sku,
    /// How many were there.
    quantity: i64,
    /// When, RFC 3339; now when absent. Movements after it stay on top.
    counted_at: Option<String>,
}

/// Stock is changed by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// Where.
    #[schema(value_type = String)]
    slot: SlotId,
    /// What.
    #[schema(value_type = String)]
    sku: Sku,
    /// By how many.
    delta: i64,
    /// Why.
    reason: String,
}

/// Nothing is on a cell now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tare {
    /// Which cell of the device.
    #[schema(value_type = String)]
    channel: Channel,
}

/// A slot is empty now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Zero {
    /// Whatever other sources say is in it.
    #[serde(default)]
    force: bool,
}

/// What is in a zone now is to be told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CycleCount {
    /// The zone; the whole facility when absent.
    #[schema(value_type = Option<String>)]
    zone: Option<ZoneId>,
}

/// What a cycle count found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// The zone; the whole facility when absent.
    zone: Option<String>,
    /// Tags that are present.
    present: u64,
    /// Of these, tags that are less likely there than nine in ten.
    doubtful: u64,
    /// Of these, tags of no SKU that is known.
    unknown: u64,
    /// The others by SKU, the first thousand: SKU and tags.
    skus: Vec<(String, u64)>,
}

/// What a call did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    /// Where it stands in the journal.
    position: String,
    /// What it moved. Absent while the commit is still waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    movements: Option<Vec<MovementTold>>,
    /// What a cycle count found.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<Counted>,
}

/// Books goods that came in.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/receipts", tag = "stock changes", params(("facility" = String, Path), ("Idempotency-Key" = String, Header)), request_body = Receipt, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn receipt(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<String>,
    body: Json<Receipt>,
) -> Answer {
    let Receipt { slot, sku, quantity, reference } = body.0;
    let command = Command::Receipt { slot, sku, quantity: Units(quantity), reference };
    Call { api: &api, caller, key: key.0, facility: id("facility", &path)? }.make(command).await
}

/// Books goods that went out.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/picks", tag = "stock changes", params(("facility" = String, Path), ("Idempotency-Key" = String, Header)), request_body = Pick, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn pick(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<String>,
    body: Json<Pick>,
) -> Answer {
    let Pick { slot, sku, quantity, reference } = body.0;
    let command = Command::Pick { slot, sku, quantity: Units(quantity), reference };
    Call { api: &api, caller, key: key.0, facility: id("facility", &path)? }.make(command).await
}

/// Books goods that changed place.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/moves", tag = "stock changes", params(("facility" = String, Path), ("Idempotency-Key" = String, Header)), request_body = Move, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn relocate(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<String>,
    body: Json<Move>,
) -> Answer {
    let Move { from, to, sku, quantity } = body.0;
    let command = Command::Move { from, to, sku, quantity: Units(quantity) };
    Call { api: &api, caller, key: key.0, facility: id("facility", &path)? }.make(command).await
}

/// Records a count.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/counts", tag = "stock changes", params(("facility" = String, Path), ("Idempotency-Key" = String, Header)), request_body = Count, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn count(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<String>,
    body: Json<Count>,
) -> Answer {
    let Count { slot, sku, quantity, counted_at } = body.0;
    let counted_at = time("counted_at", counted_at.as_deref())?.map(|at| HubTime(at.0));
    let command = Command::Count { slot, sku, quantity: Units(quantity), counted_at };
    Call { api: &api, caller, key: key.0, facility: id("facility", &path)? }.make(command).await
}

/// Changes stock by hand.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/adjustments", tag = "stock changes", params(("facility" = String, Path), ("Idempotency-Key" = String, Header)), request_body = Adjustment, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn adjustment(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<String>,
    body: Json<Adjustment>,
) -> Answer {
    let Adjustment { slot, sku, delta, reason } = body.0;
    let command = Command::Adjust { slot, sku, delta: Units(delta), reason };
    Call { api: &api, caller, key: key.0, facility: id("facility", &path)? }.make(command).await
}

/// Declares that nothing is on a cell now.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/devices/{device}/tare", tag = "stock changes", params(("facility" = String, Path), ("device" = String, Path), ("Idempotency-Key" = String, Header)), request_body = Tare, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn tare(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<(String, String)>,
    body: Json<Tare>,
) -> Answer {
    let (facility, device) = path.into_inner();
    let device: DeviceId = id("device", &device)?;
    let command = Command::Tare { device, channel: body.0.channel };
    Call { api: &api, caller, key: key.0, facility: id("facility", &facility)? }.make(command).await
}

/// Declares that a slot is empty now: what its cell shows is its new zero. Refused when another source says that something is
/// in it, unless forced.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/slots/{slot}/zero", tag = "stock changes", params(("facility" = String, Path), ("slot" = String, Path), ("Idempotency-Key" = String, Header)), request_body = Zero, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn zero(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<(String, String)>,
    body: Json<Zero>,
) -> Answer {
    let (facility, slot) = path.into_inner();
    let command = Command::Zero { slot: id("slot", &slot)?, force: body.0.force };
    Call { api: &api, caller, key: key.0, facility: id("facility", &facility)? }.make(command).await
}

/// Counts the tags that are present in a zone, by what the readers told so far.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/cycle-counts", tag = "stock changes", params(("facility" = String, Path), ("Idempotency-Key" = String, Header)), request_body = CycleCount, responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn cycle_count(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<String>,
    body: Json<CycleCount>,
) -> Answer {
    let command = Command::CycleCount { zone: body.0.zone };
    Call { api: &api, caller, key: key.0, facility: id("facility", &path)? }.make(command).await
}

/// Declares that a tag is not here any more: it departed, and is a unit of no slot. A reader that hears it again brings it
/// back.
#[utoipa::path(post, path = "/api/v1/facilities/{facility}/tags/{tag}/gone", tag = "stock changes", params(("facility" = String, Path), ("tag" = String, Path), ("Idempotency-Key" = String, Header)), responses((status = 201, body = Done), (status = 202, body = Done, description = "Journaled, not committed yet")))]
pub async fn tag_gone(
    api: web::Data<Api>,
    caller: Caller,
    key: IdempotencyKey,
    path: web::Path<(String, String)>,
) -> Answer {
    let (facility, tag) = path.into_inner();
    let facility: FacilityId = id("facility", &facility)?;
    let tag = one_tag(&api, &facility, &tag).await?;
    let command = Command::TagGone { tag, elsewhere: None, unless_read_since: None };
    Call { api: &api, caller, key: key.0, facility }.make(command).await
}

/// One call under way.
struct Call<'a> {
    api: &'a Api,
    caller: Caller,
    key: String,
    facility: FacilityId,
}

impl Call<'_> {
    async fn make(self, command: Command) -> Answer {
        check_texts(&command)?;
        let shard = self.api.shard_of(&self.facility).await?;
        let request =
            serde_json::to_vec(&command).map_err(|error| Problem::internal(error.to_string()))?;
        let request: [u8; 32] = Sha256::digest(&request).into();
        let store = &self.api.desk.store;
        let take = store.take_key(self.facility.as_str(), &self.key, request);
        let state = match tokio::time::timeout(KEY_WAIT, take).await {
            Ok(Ok(state)) => state,
            // The journal takes the call nevertheless; the fold knows whether the key is new.
            Ok(Err(Fault::Away(_))) | Err(_) => KeyState::New,
            Ok(Err(fault)) => return Err(fault.into()),
        };
        match state {
            KeyState::Other => {
                return Err(Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "idempotency_key_reused",
                    "This Idempotency-Key was used for another call, so nothing was done. Make a new key for each change.",
                ));
            }
            KeyState::Same(Some(position)) => return self.answer(position, false).await,
            KeyState::Same(None) => {
                if let Some(position) = self.find().await? {
                    return self.answer(position, false).await;
                }
            }
            KeyState::New => {}
        }
        let principal = Principal::Person(self.caller.name.clone());
        let body = Body::Command(CommandEntry { key: Some(self.key.clone()), command });
        let position = self.api.desk.append(shard, &self.facility, principal, &body).await?;
        self.answer(position, true).await
    }

    /// Remembers where the call stands. When that fails a repeat finds it another way.
    async fn keep(&self, position: Position) {
        let keep = self.api.desk.store.keep_key(self.facility.as_str(), &self.key, position);
        match tokio::time::timeout(KEY_WAIT, keep).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(%position, %fault, "an Idempotency-Key was not written down");
            }
            Err(_) => tracing::warn!(%position, "an Idempotency-Key was not written down in time"),
        }
    }

    /// What the entry at a position did. `fresh`: it was appended just now, and may be a repeat of an earlier one.
    async fn answer(&self, position: Position, fresh: bool) -> Answer {
        let waiting = || {
            let position = position.to_string();
            HttpResponse::Accepted().json(Done { position, movements: None, count: None })
        };
        if !self.api.desk.committed(position, COMMIT_WAIT).await {
            return Ok(waiting());
        }
        let outcome = match self.outcome(position).await {
            Ok(outcome) => outcome,
            Err(Fault::Away(_)) => return Ok(waiting()),
            Err(fault) => return Err(fault.into()),
        };
        if outcome.refusal.is_none()
            && outcome.movements.is_empty()
            && outcome.count.is_none()
            && fresh
            && let Some(first) = self.find().await?.filter(|first| *first != position)
        {
            // This entry did nothing because an earlier one has the key: only that one is remembered.
            self.keep(first).await;
            return self.outcome(first).await?.answer(first);
        }
        self.keep(position).await;
        outcome.answer(position)
    }

    async fn outcome(&self, position: Position) -> Result<Outcome, Fault> {
        let store = &self.api.desk.store;
        let mut movements = store.movements_at(position).await?;
        // A cell that was due to settle, or a tag that was due, may have spoken in the same entry; that is the hub's own doing
        // and not this call's.
        movements.retain(|movement| movement.principal.as_deref().is_some_and(|by| by != "hub"));
        let refusal = store.refusal_at(position).await?;
        let count = match (&refusal, movements.is_empty()) {
            (None, true) => store.cycle_count_at(position).await?,
            (Some(_), _) | (None, false) => None,
        };
        let count = count.and_then(|count| serde_json::from_value(count).ok());
        Ok(Outcome { movements, refusal, count })
    }

    /// The entry of this facility that has this key, among the newest of a day.
    async fn find(&self) -> Result<Option<Position>, Problem> {
        let desk = self.api.desk.clone();
        let since = When(desk.now_us().saturating_sub(fold::limits::KEY_US));
        let candidates = desk
            .store
            .command_positions(self.facility.as_str(), since, KEY_SEARCH_ENTRIES_MAX)
            .await?;
        let (facility, key) = (self.facility.clone(), self.key.clone());
        web::block(move || candidates.into_iter().find(|at| has_key(&desk, *at, &facility, &key)))
            .await
            .map_err(|error| Problem::internal(error.to_string()))
    }
}

fn has_key(desk: &Desk, position: Position, facility: &FacilityId, key: &str) -> bool {
    desk.entry_at(position, facility).is_some_and(|entry| match entry.body {
        Body::Command(command) => {
            entry.facility == *facility && command.key.as_deref() == Some(key)
        }
        Body::Frame(_)
        | Body::Tick
        | Body::Profile(_)
        | Body::Master(_)
        | Body::Quarantined { .. }
        | Body::FoldUpgraded { .. }
        | Body::Restated { .. }
        | Body::Unreadable { .. } => false,
    })
}

/// What became of a call: what it moved, why it was refused (code and words), what it counted.
struct Outcome {
    movements: Vec<MovementTold>,
    refusal: Option<(String, String)>,
    count: Option<Counted>,
}

impl Outcome {
    fn answer(self, position: Position) -> Answer {
        if let Some((code, detail)) = self.refusal {
            return Err(rejected(code, &detail));
        }
        let (position, movements) = (position.to_string(), Some(self.movements));
        Ok(HttpResponse::Created().json(Done { position, movements, count: self.count }))
    }
}

/// The fold's reason is the code.
fn rejected(code: String, detail: &str) -> Problem {
    let detail = format!(
        "The call was recorded but not carried out: {detail}. Correct it and send it with a new key."
    );
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "rejected", detail).coded(code)
}

/// Texts go to the journal for good, so they are checked before.
fn check_texts(command: &Command) -> Result<(), Problem> {
    let (field, text) = match command {
        Command::Receipt { reference, .. } | Command::Pick { reference, .. } => {
            ("reference", reference.as_deref())
        }
        Command::Adjust { reason, .. } => ("reason", Some(reason.as_str())),
        Command::Move { .. }
        | Command::Count { .. }
        | Command::Tare { .. }
        | Command::TagGone { .. }
        | Command::CycleCount { .. }
        | Command::Zero { .. } => {
            return Ok(());
        }
    };
    let most = fold::limits::TEXT_BYTES_MAX;
    match text {
        Some(text) if text.len() > most || text.chars().any(char::is_control) => {
            Err(Problem::invalid(
                field,
                format!("This text has at most {most} bytes and no control characters."),
            ))
        }
        Some(_) | None => Ok(()),
    }
}
