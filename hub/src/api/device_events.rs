//! What was told of devices: a list for whoever looks after them.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    problem::Problem,
    request::{Page, Paging, Query},
    stock::before,
};
use crate::store::device_events::{DeviceEvent, DeviceEventFilter};

/// What may be told of a device.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceEventKind {
    /// It began anew.
    DeviceRebooted,
    /// Readings of it never came.
    SourceLoss,
    /// An antenna, or the whole reader, listens.
    Listening,
    /// It does not.
    Deaf,
    /// A reader says that something is wrong.
    ReaderTrouble,
}

impl DeviceEventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::DeviceRebooted => "device_rebooted",
            Self::SourceLoss => "source_loss",
            Self::Listening => "listening",
            Self::Deaf => "deaf",
            Self::ReaderTrouble => "reader_trouble",
        }
    }
}

/// Which events of a facility's devices.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeviceEventQuery {
    /// Of this kind.
    #[param(inline)]
    kind: Option<DeviceEventKind>,
    /// Of this device.
    device: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    /// Items wanted, 1 to 1000.
    limit: Option<u32>,
}

/// What was told of a facility's devices, newest first.
#[utoipa::path(get, path = "/api/v1/facilities/{facility}/device-events", tag = "devices", params(("facility" = String, Path), DeviceEventQuery), responses((status = 200, body = Page<DeviceEvent>)))]
pub async fn list(
    api: web::Data<Api>,
    path: web::Path<String>,
    query: Query<DeviceEventQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.0;
    api.facility_known(Some(path.as_str())).await?;
    let paging = Paging::<2>::read(query.cursor.as_deref(), query.limit)?;
    let filter = DeviceEventFilter {
        facility: &path,
        device: query.device.as_deref(),
        kind: query.kind.map(DeviceEventKind::as_str),
        before: before(&paging)?,
    };
    let rows = api.desk.store.device_events(filter, paging.fetch()).await?;
    let key = |event: &DeviceEvent| [event.at.0.to_string(), event.id.clone()];
    Ok(HttpResponse::Ok().json(Page::of(rows, &paging, key)))
}
