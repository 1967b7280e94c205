//! Readings over HTTP: webhooks of readers, and devices that cannot speak MQTT.
//!
//! The same as a publish to `stockfold/v1/{device}/{stream}`: the same identity (the device's own secret, checked by the guard),
//! the same codecs, the same journal, the same rates, and a success only when the frame is durable. What does not decode is
//! taken, kept with its bytes and rejected, as everywhere. A sender that repeats what was not answered is told by its profile's
//! `dedupe`, as it would be over MQTT.

use std::sync::Arc;

use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, http::StatusCode, web};
use actors::journal::Completion;
use device_profiles::{ids::check_id, limits::FRAME_BYTES_MAX};
use tokio::{sync::oneshot, time::Instant};

use super::{Api, problem::Problem, request::Body};
use crate::{
    directory::Device,
    mqtt::{PublishRefusal, Refused},
};

/// The device that calls, as the guard found it.
pub struct Myself(Arc<Device>);

impl FromRequest for Myself {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
        let device = request.extensions().get::<Arc<Device>>().cloned().map(Self);
        std::future::ready(
            device.ok_or_else(|| Problem::internal("a device's route without a device")),
        )
    }
}

/// Takes a frame of the device that calls.
#[utoipa::path(post, path = "/api/v1/devices/{device}/readings/{stream}", tag = "devices", params(("device" = String, Path), ("stream" = String, Path)), request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "One frame as the device's profile reads it, at most 128 KiB"), responses((status = 204, description = "It is in the journal, and synced")))]
pub async fn post(
    api: web::Data<Api>,
    Myself(device): Myself,
    path: web::Path<(String, String)>,
    Body(frame): Body<FRAME_BYTES_MAX>,
) -> Result<HttpResponse, Problem> {
    let (_, stream) = path.into_inner();
    if check_id(&stream).is_err() || stream == "cmd" {
        return Err(Problem::not_found("stream", &stream));
    }
    let rates = api.desk.endpoint.registry.rates_of(device.id.as_str());
    let now = Instant::now();
    let paid =
        rates.publishes.take(1, now).and_then(|()| rates.bytes.take(frame.len() as u64, now));
    if let Err(wait) = paid {
        let detail = "The device sends more than the hub takes from one. Send less often, or more in one frame.";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", detail)
            .retry_after(wait.as_secs() + 1));
    }
    let (tell, told) = oneshot::channel();
    let ingress = &api.desk.watch.ingress;
    let taken = ingress.take(&device, &stream, &frame.into(), false, Completion::Tell(tell));
    let busy = |code, detail: &str| {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(1))
    };
    match taken {
        Ok(()) => {}
        Err(PublishRefusal::Quota) => {
            ingress.refusals.count(device.id.as_str(), Refused::Quota);
            return busy(
                "storage_full",
                "The hub's disk is too full for it. Nothing was recorded; send it again.",
            );
        }
        Err(PublishRefusal::QueueFull) => {
            return busy(
                "journal_busy",
                "The journal cannot take more at the moment. Nothing was recorded; send it again.",
            );
        }
        Err(PublishRefusal::Unavailable | PublishRefusal::NotAuthorised) => {
            return busy("stopping", "The hub is stopping. Nothing was recorded; send it again.");
        }
    }
    // The sender is dropped without a word only where the journal ends; what became of the frame is not known then.
    match told.await {
        Ok(_) => Ok(HttpResponse::NoContent().finish()),
        Err(_) => {
            busy("stopping", "The hub is stopping. The frame may not be recorded; send it again.")
        }
    }
}
