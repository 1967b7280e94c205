//! One client's WebSocket: joins, takes its snapshot, then passes on what it has not seen.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use actix_ws::{AggregatedMessage, CloseCode, CloseReason, Closed, Session};
use bytestring::ByteString;
use device_profiles::FacilityId;
use fold::Position;
use futures_util::StreamExt;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Cut, Feed, NoSeat, Subscription, Told,
    limits::{CLIENT_FRAME_BYTES_MAX, GOODBYE_WAIT},
    message::Message,
};
use crate::{
    api::{
        Api,
        limits::LIVE_CLIENTS_MAX,
        problem::Problem,
        request::{Query, header_text, id},
        same_origin,
    },
    desk::Desk,
};

/// What to look at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LiveQuery {
    /// The facility.
    facility: String,
}

/// Upgrades to a WebSocket that tells stock as it changes. Its messages are `LiveMessage`.
#[utoipa::path(get, path = "/api/v1/live", tag = "stock", params(LiveQuery), responses((status = 101, description = "Upgraded to a WebSocket")))]
pub async fn live(
    api: web::Data<Api>,
    request: HttpRequest,
    query: Query<LiveQuery>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let origin = header_text(&request, header::ORIGIN);
    if same_origin(origin, header_text(&request, header::HOST)) == Some(false) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "A page of another site may not listen here. Open the hub's own page.",
        ));
    }
    let facility: FacilityId = id("facility", &query.0.facility)?;
    let shard = api.shard_of(&facility).await?;
    let (response, session, stream) = actix_ws::handle(&request, payload).map_err(|error| {
        Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_needed",
            format!("This is a WebSocket, and the request does not open one: {error}."),
        )
    })?;
    let subscription =
        api.feed.join(&facility, shard, LIVE_CLIENTS_MAX).await.map_err(|why| no_seat(&why))?;
    let listener = Listener {
        desk: api.desk.clone(),
        feed: api.feed.clone(),
        facility,
        session,
        seen: Position::default(),
    };
    let heard = stream.max_frame_size(CLIENT_FRAME_BYTES_MAX).aggregate_continuations();
    actix_web::rt::spawn(
        listener.run(subscription, heard.max_continuation_size(CLIENT_FRAME_BYTES_MAX)),
    );
    Ok(response)
}

fn no_seat(why: &NoSeat) -> Problem {
    let detail = match why {
        NoSeat::Full => {
            format!("{LIVE_CLIENTS_MAX} clients listen already. Close one, or try again later.")
        }
        NoSeat::Stopped => "The hub is stopping. Connect again when it is back.".to_owned(),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "live_full", detail).retry_after(5)
}

struct Listener {
    desk: Desk,
    feed: Feed,
    facility: FacilityId,
    session: Session,
    /// Everything up to here was sent.
    seen: Position,
}

/// Why a connection ends.
enum End {
    /// The client is gone or said goodbye.
    Gone,
    /// We end it, and say why.
    Bye(CloseCode, &'static str),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

impl Listener {
    async fn run(
        mut self,
        mut subscription: Subscription,
        mut heard: impl StreamExt<Item = Result<AggregatedMessage, actix_ws::ProtocolError>> + Unpin,
    ) {
        let session = self.session.clone();
        let mut cut = subscription.cut.clone();
        let end = tokio::select! {
            // First, so that a client that takes nothing more is still cut.
            biased;
            end = cut_off(&mut cut) => end,
            end = listen(session.clone(), &mut heard) => end,
            end = self.talk(&mut subscription) => end,
        };
        if let End::Bye(code, why) = end {
            let reason = CloseReason { code, description: Some(why.to_owned()) };
            // A slow client may not even take the goodbye.
            let _ = tokio::time::timeout(GOODBYE_WAIT, session.close(Some(reason))).await;
        }
    }

    async fn talk(&mut self, subscription: &mut Subscription) -> End {
        match self.tell(subscription).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn tell(&mut self, subscription: &mut Subscription) -> Result<End, End> {
        self.snapshot().await?;
        while let Some(told) = subscription.queue.recv().await {
            match told {
                Told::Delta(delta) => {
                    if let Some(text) = delta.after(self.seen) {
                        self.seen = delta.to();
                        self.send(text).await?;
                    }
                }
                Told::Text(text) => self.send(text).await?,
                Told::Resync => self.snapshot().await?,
            }
        }
        // The task has let go of this client; why is in `cut`, which is looked at first.
        Ok(End::Bye(CloseCode::Restart, "the feed ended; connect again"))
    }

    /// Reads and sends everything. It is read after joining, so whatever it does not have yet is in the queue.
    async fn snapshot(&mut self) -> Result<(), End> {
        let away = |fault| {
            tracing::warn!(facility = %self.facility, %fault, "no snapshot for a live client");
            End::Bye(CloseCode::Again, "the database is away; connect again")
        };
        let places = self.desk.store.places(self.facility.as_str()).await.map_err(away)?;
        self.feed.tell_places(&self.facility, places.into_iter().collect());
        let now = self.desk.now_us();
        let snapshot = self.desk.store.snapshot(self.facility.as_str(), now).await.map_err(away)?;
        let Some(snapshot) = snapshot else {
            return Err(End::Bye(CloseCode::Policy, "there is no such facility"));
        };
        let position = snapshot.position.to_string();
        self.seen = snapshot.position;
        self.send(Message::Snapshot { position, stock: &snapshot.stock }.text()).await
    }

    async fn send(&mut self, text: ByteString) -> Result<(), End> {
        Ok(self.session.text(text).await?)
    }
}

/// Resolves when the feed cuts this client.
async fn cut_off(cut: &mut tokio::sync::watch::Receiver<Option<Cut>>) -> End {
    match cut.wait_for(Option::is_some).await.map(|cut| *cut) {
        Ok(Some(Cut::Slow)) => End::Bye(
            CloseCode::Again,
            "too slow: messages were waiting; connect again for a new snapshot",
        ),
        Ok(Some(Cut::Stopping)) => End::Bye(CloseCode::Away, "the hub is stopping"),
        Ok(None) | Err(_) => End::Bye(CloseCode::Restart, "the feed ended; connect again"),
    }
}

/// Answers pings; ends when the client does. What it says otherwise is not asked for and not read.
async fn listen(
    mut session: Session,
    heard: &mut (impl StreamExt<Item = Result<AggregatedMessage, actix_ws::ProtocolError>> + Unpin),
) -> End {
    while let Some(Ok(message)) = heard.next().await {
        match message {
            AggregatedMessage::Ping(bytes) => {
                if session.pong(&bytes).await.is_err() {
                    return End::Gone;
                }
            }
            AggregatedMessage::Close(_) => return End::Bye(CloseCode::Normal, "goodbye"),
            AggregatedMessage::Text(_)
            | AggregatedMessage::Binary(_)
            | AggregatedMessage::Pong(_) => {}
        }
    }
    End::Gone
}
